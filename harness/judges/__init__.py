"""Judges: one per file, a subclass of `harness.protocols.Judge`.

A judge replies to prompts. The benchmark decides what to ask and how to read the reply. `harness.judging` asks judges,
journals their replies and tracks the cost.

    >>> from harness.components import build
    >>> judge = build("judge", {"name": "reward_model", "reward": {"name": "length"}})
    >>> judge.reads_candidates   # it scores the two answers and ignores the prompt
    True
"""
