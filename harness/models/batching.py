"""Which prompts are decoded together: batches of similar lengths that fit in the device's memory."""

import os
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from harness.errors import ModelError
from harness.models.config import largest
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

_sizes: "WeakKeyDictionary[PreTrainedModel, tuple[int, int]]" = WeakKeyDictionary()
"""What `_cache_size` has measured."""


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
    return sorted(indexed, key=lambda p: (-len(p.job.prompt), -p.job.sampling.most_tokens, p.request))


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
        length, limit = len(job.prompt), job.sampling.most_tokens
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
    cached, state = _cache_size(model)
    # During prefill a layer holds its input, queries, keys, values and output, and three tensors of its inner size.
    inner = largest(model, "intermediate_size", "ffn_dim", "n_inner", "hidden_size")
    activations = (6 * largest(model, "hidden_size") + 3 * inner) * model.dtype.itemsize
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    accelerated = model.device.type != "cpu"
    share = SHARE if accelerated else SHARE / 2
    free = max(0.0, share * (device_memory(model) - weights))
    most = 256 if accelerated else 64
    if state:  # which may take half of the memory
        most = max(1, min(most, int(free / 2 / state)))
    # A step reads the weights once, whatever the batch size, and the cache including its padding.
    return BatchLimits(batch_size or most, int(free / (cached + activations)), weights // cached)


def _cache_size(model: "PreTrainedModel") -> tuple[int, int]:
    """Bytes that a token adds to the cache, and bytes of what is kept of a sequence whatever its length (states of
    linear attention). Measured, since families differ in what they keep: by layer, shared, compressed, or nothing."""
    import torch

    if model in _sizes:
        return _sizes[model]

    def size(tokens: int) -> int:
        out = model(input_ids=torch.zeros(1, tokens, dtype=torch.long, device=model.device), use_cache=True)
        return sum(_bytes(vars(layer)) for layer in getattr(out.get("past_key_values"), "layers", ()))

    try:
        with torch.inference_mode():
            one, nine = size(1), size(9)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(f"9 tokens do not fit in memory with {model.name_or_path}: use a smaller model") from None
    token = max(1, (nine - one) // 8)
    _sizes[model] = token, max(0, one - token)
    return _sizes[model]


def _bytes(value: Any) -> int:
    """The size of all tensors in (nested) containers."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_bytes, inner))


def device_memory(model: "PreTrainedModel") -> int:
    """Bytes of the device's memory, or the container's limit if that is lower."""
    import torch

    if model.device.type in {"cuda", "xpu"}:
        return int(getattr(torch, model.device.type).get_device_properties(model.device).total_memory)
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
    return min(installed, int(limit)) if limit.isdecimal() else installed


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out: torch has a class for accelerators; on a CPU it is a RuntimeError."""
    import torch

    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "allocate memory" in text or "out of memory" in text
    )
