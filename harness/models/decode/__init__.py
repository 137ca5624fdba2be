"""Sampling from a causal language model in process.

`slots` decodes rows that come and go (continuous batching) with the attention of `attention`, for the models that
`support` accepts, in the threads of `workers`, which take rows from `waiting`; `prompts` computes their prompts.
`padded` decodes batches of all others with the model's own cache. `rows` says what is drawn and where a text ends,
`sampling` draws tokens.
"""
