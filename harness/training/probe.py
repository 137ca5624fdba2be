"""What a loss looks at: which examples hold a preference for it, and which of their responses it depends on."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.errors import DataError
from harness.protocols import Loss, RankedLogps
from harness.training.batch import Group

PROBES = 256
"""Random log-ratios (and draws) that a loss is tried on; more where there are many responses."""


class Looked(NamedTuple):
    """Whether a loss counts an example, and which of its responses the loss depends on."""

    counts: bool
    used: tuple[bool, ...]


def usable(groups: Sequence[Group], loss: Loss, *, everything: bool) -> list[Group]:
    """The groups that the loss finds a preference in, each with the responses that it looks at (`everything`: all).
    Raises DataError when there are none."""
    seen: dict[tuple[object, ...], Looked] = {}
    kept = []
    for group in groups:
        key = (group.scores, tuple(len(r) for r in group.responses))
        looked = seen[key] = seen.get(key) or _look(group, loss)
        if looked.counts and any(looked.used):
            kept.append(group if everything or all(looked.used) else group._replace(used=looked.used))
    if not kept:
        raise DataError(f"none of {len(groups)} examples holds a preference: every one has all its scores tied")
    return kept


def _look(group: Group, loss: Loss) -> Looked:
    """A response is used where the loss has a gradient with respect to it at any of many random log-ratios and draws,
    or where another log-ratio of it changes the loss (a weight that was detached depends on it). Whether an example
    counts depends on its scores alone."""
    generator = torch.Generator().manual_seed(0)
    count = len(group.scores)
    shape = (max(PROBES, 16 * count), count)
    scores = torch.tensor([group.scores], dtype=torch.float32).expand(shape)
    lengths = torch.tensor([[len(r) for r in group.responses]]).expand(shape)
    draws = torch.rand(shape, generator=generator)

    def losses(logps: Tensor) -> tuple[Tensor, Tensor]:
        mask = torch.ones(shape, dtype=torch.bool)
        return loss(RankedLogps(logps, torch.zeros(shape, dtype=logps.dtype), scores, lengths, mask, draws))

    logps = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    values, valid = losses(logps)
    if not valid[0]:
        return Looked(False, (False,) * count)
    used = torch.zeros(count, dtype=torch.bool)
    if values.requires_grad:
        (gradient,) = torch.autograd.grad(values.sum(), logps)
        used = (gradient != 0).any(dim=0)
    with torch.no_grad():
        for k in range(count):
            if not used[k]:
                other = logps.clone()
                other[:, k] = 3 * torch.randn(shape[0], generator=generator, dtype=torch.float64)
                used[k] = bool((losses(other)[0] != values).any())
    return Looked(True, tuple(used.tolist()))
