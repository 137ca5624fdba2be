"""Boards as records of Every Eval Ever, the EvalEval coalition's schema 0.3 for results of evaluations, and back.

`export` writes one record a row, made of `identity` (model, source, when), `figures` (one result a figure) and
`samples` (answers with their scores). `reading` makes a board of records, also of other people's: `schema` is what is
read of one, `reported` which of its results are figures of ours.

The schema: https://github.com/evaleval/every_eval_ever (MIT); paper: arXiv 2606.14516.
"""

SCHEMA_VERSION = "0.3.0"
LIBRARY = "preference-harness"
"""How records name this package."""
