"""Reward models: one a file."""
