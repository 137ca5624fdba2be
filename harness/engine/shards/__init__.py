"""Parts of a stage's work, which may be done on many machines: a shard has the prompts whose ids' hashes begin alike.

`partition` says which ones, `spool` hands rows to shards and puts their results into the rows' order, on disk, and
`journal` keeps what a shard has computed where the others need not read it.
"""
