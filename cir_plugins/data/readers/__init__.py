"""Readers: a data set's folder to splits. Each module here reads one layout of files."""
