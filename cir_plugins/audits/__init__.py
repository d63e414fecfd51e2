"""Audits of a run: what its numbers rest on, query by query."""
