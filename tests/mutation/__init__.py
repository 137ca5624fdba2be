"""Mutation check of the core: `python -m tests.mutation` changes one expression at a time in a copy of the tree, and
asks whether a test notices. It is not part of the suite, as it takes about an hour."""
