"""What a loss uses: the examples that hold a preference for it, and the responses of theirs that it depends on."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.errors import DataError
from harness.protocols import Loss, RankedLogps
from harness.training.ranked.batch import Group

TRIALS = 256
"""Random log-ratios (and draws) that a loss is tried on; more if there are many responses."""


class Dependence(NamedTuple):
    """Whether a loss counts an example, and which of its responses the loss depends on."""

    counts: bool
    used: tuple[bool, ...]


def usable_groups(groups: Sequence[Group], loss: Loss, *, all_responses: bool) -> list[Group]:
    """The groups in which the loss finds a preference, each marked with the responses that the loss uses
    (`all_responses`: all of them). Raises DataError if there are none."""
    cache: dict[tuple[object, ...], Dependence] = {}
    usable = []
    for group in groups:
        key = (group.scores, tuple(len(r) for r in group.responses))
        dependence = cache[key] = cache.get(key) or _probe(group, loss)
        if dependence.counts and any(dependence.used):
            everything = all_responses or all(dependence.used)
            usable.append(group if everything else group._replace(used=dependence.used))
    if not usable:
        raise DataError(f"none of {len(groups)} examples holds a preference: in each, all scores are tied")
    return usable


def _probe(group: Group, loss: Loss) -> Dependence:
    """A response is used if the loss has a gradient with respect to it at any of many random log-ratios and draws, or
    if changing its log-ratio changes the loss (through a detached weight). Whether an example counts depends only on
    its scores."""
    generator = torch.Generator().manual_seed(0)
    count = len(group.scores)
    shape = (max(TRIALS, 16 * count), count)
    scores = torch.tensor([group.scores], dtype=torch.float32).expand(shape)
    lengths = torch.tensor([[len(r) for r in group.responses]]).expand(shape)
    draws = torch.rand(shape, generator=generator)

    def losses(logps: Tensor) -> tuple[Tensor, Tensor]:
        mask = torch.ones(shape, dtype=torch.bool)
        return loss(RankedLogps(logps, torch.zeros(shape, dtype=logps.dtype), scores, lengths, mask, draws))

    logps = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    values, valid = losses(logps)
    if not valid[0]:
        return Dependence(False, (False,) * count)
    used = torch.zeros(count, dtype=torch.bool)
    if values.requires_grad:
        (gradient,) = torch.autograd.grad(values.sum(), logps)
        used = (gradient != 0).any(dim=0)
    with torch.no_grad():
        for k in range(count):
            if not used[k]:
                changed = logps.clone()
                changed[:, k] = 3 * torch.randn(shape[0], generator=generator, dtype=torch.float64)
                used[k] = bool((losses(changed)[0] != values).any())
    return Dependence(True, tuple(used.tolist()))
