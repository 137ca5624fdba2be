"""Models behind OpenAI-compatible servers: retries, rate control per server, prices and spending limits.

`served` is the base of all served components, whose fields are in `addressed` and whose keys in `credentials`;
`adapting` is for servers that refuse or lack something. `pace` slows down for an overloaded server, `prices` reads
price tables, `spending` stops a run before its judges exceed the cost limit.

`hosts` decides which host may get which key, and `masking` removes keys from what servers write. `transport` makes
calls within limits of time, bytes and memory. `faults` says what an error means, `replies` which replies count.

    >>> from harness.servers.prices import dollars
    >>> dollars(1.5)
    '$1.5000'
"""
