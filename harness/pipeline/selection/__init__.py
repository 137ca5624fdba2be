"""Choosing among a method's candidates (checkpoints, values of an axis) on some prompts, for figures of the others."""
