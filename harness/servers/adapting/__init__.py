"""What a server refuses, needs or lacks: how a request is changed so that it still means the same.

`refusals` says which parameter a refusal is about, in the words of many servers. `terms` keeps what was learnt of one
server and model, and changes requests accordingly. `streams` makes one reply of a stream. `opening` lets only a few
calls go ahead until one of them is answered, so that a setting that can't work costs ten calls and not a thousand.

    >>> from harness.servers.adapting.refusals import about_length
    >>> about_length("This model's maximum context length is 4096 tokens; please reduce max_tokens")
    True
"""
