"""Rows and boards at two times: what decides a row, why two can't be compared, and the boards that a folder has had.

`substance` says whether two rows are one, `renames` gives a row another id, `measured` says why the figures of two rows
are not comparable, and `history` keeps the boards that others have replaced.
"""
