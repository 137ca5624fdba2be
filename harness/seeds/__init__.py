"""Seed preference sets: one a file."""
