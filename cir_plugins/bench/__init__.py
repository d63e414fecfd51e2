"""Benchmarks: suites of methods, data and seeds, run and compared in one environment."""
