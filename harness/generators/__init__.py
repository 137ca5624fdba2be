"""Response generators: one a file."""
