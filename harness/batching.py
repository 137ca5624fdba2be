"""Which prompts are decoded together: batches of like lengths that fit in the device's memory."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.types import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHARE = 0.5
"""The share of the memory beside the weights that a batch may take on an accelerator; on a processor half of that,
since memory is not ours alone there."""
SHORT = 64
"""Prompts that differ by fewer tokens may share a batch."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class Job(NamedTuple):
    """A prompt's token ids, how to sample from it, and which of its samples are wanted (counted from 0)."""

    prompt: list[int]
    sampling: Sampling
    samples: tuple[int, ...] = (0,)


class Placed(NamedTuple):
    """A job and its place among those that were given."""

    place: int
    job: Job


class Room(NamedTuple):
    """What a batch may hold: sequences, and tokens (sequences times the longest prompt and the most new tokens)."""

    sequences: int
    tokens: int


def in_order(jobs: Sequence[Job]) -> list[Placed]:
    """Jobs as they are decoded. Longest first: the largest batch comes at once, so one that doesn't fit fails at once
    too. Neighbours are alike, so that little is padded."""
    placed = [Placed(i, job) for i, job in enumerate(jobs)]
    return sorted(placed, key=lambda p: (-len(p.job.prompt), -p.job.sampling.max_new_tokens, p.place))


def batches(jobs: Sequence[Placed], room: Room) -> Iterator[list[Placed]]:
    """Jobs in their order, cut into batches that the room is enough for (a job with all its samples is never cut), of
    prompts no shorter than half the longest.

    Cut from the front by what is in the batch alone: without the jobs of the first batches, the others stay the same.
    So a run that was stopped after a batch goes on with the batches that it would have had.
    """
    batch: list[Placed] = []
    rows = widest = narrowest = most = 0
    for placed in jobs:
        job = placed.job
        length, limit = len(job.prompt), job.sampling.max_new_tokens
        if batch:
            rows += len(job.samples)
            widest, narrowest, most = max(widest, length), min(narrowest, length), max(most, limit)
            padded = widest > 2 * narrowest and widest - narrowest > SHORT
            if padded or rows > room.sequences or rows * (widest + most) > room.tokens:
                yield batch
                batch = []
        if not batch:
            rows, widest, narrowest, most = len(job.samples), length, length, limit
        batch.append(placed)
    if batch:
        yield batch


def room_for(model: "PreTrainedModel", batch_size: int | None) -> Room:
    """What a batch may hold with a model. From the model and the device's whole memory, not from what is free, so that
    a machine always forms the same batches. `batch_size`: sequences, None: as many as keep the device busy."""
    config = model.config.get_text_config()

    def size(*names: str) -> int:
        found = [getattr(config, name, None) for name in names]
        return next((int(x) for x in found if isinstance(x, int) and x), 1)

    heads = size("num_attention_heads", "hidden_size")
    width = size("head_dim") if size("head_dim") > 1 else size("hidden_size") // heads
    cached = 2 * size("num_hidden_layers") * size("num_key_value_heads", "num_attention_heads") * width
    # While the prompts are read, a layer has its input, queries, keys, values and output, and three of its inner size.
    passing = 6 * size("hidden_size") + 3 * size("intermediate_size", "ffn_dim", "n_inner", "hidden_size")
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    accelerated = model.device.type != "cpu"
    share = SHARE if accelerated else SHARE / 2
    free = max(0.0, share * (_memory(model) - weights))
    return Room(batch_size or (256 if accelerated else 64), int(free / ((cached + passing) * model.dtype.itemsize)))


def _memory(model: "PreTrainedModel") -> int:
    """Bytes of the device's memory; of a container's limit, where there is a lower one."""
    import torch

    if model.device.type in {"cuda", "xpu"}:
        return int(getattr(torch, model.device.type).get_device_properties(model.device).total_memory)
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
    return min(installed, int(limit)) if limit.isdecimal() else installed
