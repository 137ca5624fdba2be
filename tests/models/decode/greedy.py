"""Greedy answers beside those of transformers."""

from collections.abc import Sequence
from typing import Any

import torch

from harness.models.batching import Job
from harness.models.decoding import decode_all
from harness.types import Sampling

LIMITS = [24, 5, 12, 20]


def assert_as_transformers(model: Any, tokenizer: Any, prompts: Sequence[list[int]]) -> None:
    """Two samples of each of four prompts, of several limits, in one batch: what `generate` writes one by one."""
    jobs = [
        Job(prompt, Sampling(temperature=0, max_new_tokens=limit), (0, 1))
        for prompt, limit in zip(prompts, LIMITS, strict=True)
    ]
    ours = decode_all(model, tokenizer, jobs, seed=0, batch_size=None, advance=lambda _: None)
    for job, completions in zip(jobs, ours, strict=True):
        limit = job.sampling.max_new_tokens
        theirs = model.generate(torch.tensor([job.prompt]), max_new_tokens=limit, do_sample=False)
        written = theirs[0, len(job.prompt) :].tolist()
        assert [c.text for c in completions] == [tokenizer.decode(written, skip_special_tokens=True)] * 2
        assert [c.tokens for c in completions] == [len(written)] * 2
