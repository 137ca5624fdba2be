"""Preference losses over ranked responses: one a file."""
