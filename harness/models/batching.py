"""Which prompts are decoded together: batches of similar lengths that fit in the device's memory."""

import os
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.types import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHARE = 0.5
"""The share of the device's memory, less the weights, that a batch may use on an accelerator. On a CPU half of it is
used, since other processes share the memory."""
PADDED = 0.2
"""The share of padding allowed among prompts that are prefilled in one forward pass."""
SLACK = 64
"""Tokens of padding that are always allowed there."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class Job(NamedTuple):
    """A prompt's token ids, its sampling parameters, and the indices of the samples to draw (from 0)."""

    prompt: list[int]
    sampling: Sampling
    samples: tuple[int, ...] = (0,)


class IndexedJob(NamedTuple):
    """A job and its index in the caller's list (`request`, as in `harness.protocols.Sampled`)."""

    request: int
    job: Job


class BatchLimits(NamedTuple):
    """The largest batch: number of sequences, and tokens (sequences times the sum of the longest prompt and the largest
    number of new tokens). `padding`: tokens of cache padding at which one step takes as long as the steps of two
    separate batches."""

    sequences: int
    tokens: int
    padding: int


def longest_first(jobs: Sequence[Job]) -> list[IndexedJob]:
    """Jobs in decoding order. Longest first: the largest batch runs first, so running out of memory shows at once.
    Neighbours have similar lengths, so there is little padding."""
    indexed = [IndexedJob(i, job) for i, job in enumerate(jobs)]
    return sorted(indexed, key=lambda p: (-len(p.job.prompt), -p.job.sampling.max_new_tokens, p.request))


def batches(jobs: Sequence[IndexedJob], limits: BatchLimits) -> Iterator[list[IndexedJob]]:
    """Split jobs, sorted longest first, into batches within the limits. A job with all its samples is never split. A
    batch also ends where the sequences that may follow would have too much padding.

    A batch depends only on its own jobs and those that follow. So a run that was stopped after a batch forms the same
    remaining batches when it is resumed.
    """
    following = [*accumulate(len(indexed.job.samples) for indexed in reversed(jobs))][::-1]
    batch: list[IndexedJob] = []
    rows = widest = most = 0
    for indexed, left in zip(jobs, following, strict=True):
        job = indexed.job
        length, limit = len(job.prompt), job.sampling.max_new_tokens
        if batch:
            padding = (widest - length) * min(left, limits.sequences - rows)
            rows, most = rows + len(job.samples), max(most, limit)
            if padding > limits.padding or rows > limits.sequences or rows * (widest + most) > limits.tokens:
                yield batch
                batch = []
        if not batch:
            rows, widest, most = len(job.samples), length, limit
        batch.append(indexed)
    if batch:
        yield batch


def prefill_groups(lengths: Sequence[int]) -> list[int]:
    """Sizes of the groups of neighbouring prompts that are prefilled in one forward pass. `lengths`: of the prompts,
    longest first."""
    sizes: list[int] = []
    widest = tokens = 0
    for length in lengths:
        if sizes and widest * (sizes[-1] + 1) <= (tokens + length) / (1 - PADDED) + SLACK:
            sizes[-1] += 1
            tokens += length
        else:
            sizes.append(1)
            widest = tokens = length
    return sizes


def batch_limits(model: "PreTrainedModel", batch_size: int | None) -> BatchLimits:
    """The largest batch for a model. Depends on the device's total memory, not on its free memory, so that a machine
    always forms the same batches. `batch_size`: sequences; None: as many as keep the device busy."""
    config = model.config.get_text_config()

    def size(*names: str) -> int:
        values = [getattr(config, name, None) for name in names]
        return next((int(x) for x in values if isinstance(x, int) and x), 1)

    heads = size("num_attention_heads", "hidden_size")
    width = size("head_dim") if size("head_dim") > 1 else size("hidden_size") // heads
    cached = 2 * size("num_hidden_layers") * size("num_key_value_heads", "num_attention_heads") * width
    # During prefill a layer holds its input, queries, keys, values and output, and three tensors of its inner size.
    activations = 6 * size("hidden_size") + 3 * size("intermediate_size", "ffn_dim", "n_inner", "hidden_size")
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    accelerated = model.device.type != "cpu"
    share = SHARE if accelerated else SHARE / 2
    free = max(0.0, share * (_memory(model) - weights))
    itemsize = model.dtype.itemsize
    # A step reads the weights once, whatever the batch size, and the cache including its padding.
    padding = weights // (cached * itemsize)
    sequences = batch_size or (256 if accelerated else 64)
    return BatchLimits(sequences, int(free / ((cached + activations) * itemsize)), padding)


def _memory(model: "PreTrainedModel") -> int:
    """Bytes of the device's memory, or the container's limit if that is lower."""
    import torch

    if model.device.type in {"cuda", "xpu"}:
        return int(getattr(torch, model.device.type).get_device_properties(model.device).total_memory)
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
    return min(installed, int(limit)) if limit.isdecimal() else installed
