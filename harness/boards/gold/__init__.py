"""Gold verdicts on a part of a board's prompts, by people or a stronger judge, and what they make of its figures.

`verdicts` has the record and its files, in `gold/` beside the board; `estimates` the figures that follow from them and
the judge's verdicts (`harness.stats.ppi`).
"""
