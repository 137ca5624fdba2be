"""Generators of prompts and responses: one per file, a subclass of `harness.protocols.Generator`.

`hf` samples in process, `openai` asks a server, `vllm` runs vLLM in process. Each sample is handed over when it is
finished, and each sample of a prompt has its own random stream.

    >>> from harness.components import build
    >>> build("generator", {"name": "openai", "model": "m", "base_url": "http://127.0.0.1:8000/v1"}).parallel_requests
    16
"""
