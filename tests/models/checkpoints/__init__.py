"""Tests of saved models as folders."""
