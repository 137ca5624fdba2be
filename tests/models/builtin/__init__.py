"""Tests of fetching built-in models."""
