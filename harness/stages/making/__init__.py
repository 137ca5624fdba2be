"""Stages that make training data of responses that are there: rankings made elsewhere, and selections of a ranking."""
