"""Seed preference sets: one per file, a subclass of `harness.protocols.Seed`.

`jsonl`, `parquet` and `hub` read your own data in any supported columns; the others are public sets pinned to a commit.
Shared code is in `_base`.

    >>> from harness.components import build
    >>> len(build("seed", {"name": "builtin", "limit": 8}).pairs())
    8
"""
