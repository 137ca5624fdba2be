"""Judging in batches (`mode: batch`): a judge's requests in jobs that take up to a day and cost less.

`asking` submits, waits and collects; `records` keeps account on disk, so that no request is submitted twice. A run that
was killed or interrupted goes on with the batches that are under way.
"""
