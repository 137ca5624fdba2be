"""Runs a plan's stages and keeps their results. It knows nothing of preferences.

`stage` defines stages, `store` keeps their artifacts by key, `journal` keeps single replies, samples and scores,
`lease` lets runs share a store, `execute` runs stages in this process and `cluster` on Ray, `shards` are parts of a
stage's rows, `maintenance` lists, verifies and cleans a store.

    >>> from harness.engine.store import stage_key
    >>> stage_key("train", 2, {"epochs": 1}, {"ranked": "ab12"})[:8] != stage_key("train", 3, {}, {})[:8]
    True
"""
