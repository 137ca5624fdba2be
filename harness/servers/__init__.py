"""Models behind OpenAI-compatible servers: retries, rate control per server, prices and spending limits.

`served` is the base of all served components, `pace` slows down for an overloaded server, `prices` reads price tables,
`spending` stops a run before its judges exceed the cost limit.

    >>> from harness.servers.prices import dollars
    >>> dollars(1.5)
    '$1.5000'
"""
