"""What changed between two boards: `harness diff`.

`fields` compares recipes and other nested data, `found` collects what changed and which rows are the same, `moved`
tests which rows moved, `words` tells it in sentences and tables, which `terminal` and `markdown` draw.

    from harness.report.changes.found import changes_between

    changes_between(read_board(before), read_board(after)).recipe
"""
