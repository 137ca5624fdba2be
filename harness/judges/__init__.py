"""Judges: one a file."""
