"""Requests in batches: `endpoints` speaks with the server, `batching` writes and reads a batch's lines.

`harness.judging.batches` decides what is sent, and keeps account of it across runs.

    >>> from harness.servers.batches.endpoints import ENDED
    >>> "in_progress" in ENDED
    False
"""
