"""Log-probabilities of responses, from rows that hold a prompt once and its responses as branches.

`rows` builds and pads rows, `head` projects only response tokens onto the vocabulary, tile by tile, `layout` detects
models that can't process such rows, `score` scores any (prompt, response) pairs without gradients.

    >>> from harness.logprobs.rows import token_row
    >>> token_row([1, 2, 3], [[7, 8], [9]]).input_ids   # the last prompt token is the head of each branch
    [1, 2, 3, 7, 3]
"""
