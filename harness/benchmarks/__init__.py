"""Benchmarks: one a file."""
