"""Batches of ranked log-probabilities for the loss tests, all losses that ship, and the DPO term in float64."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import harness.losses
from harness.components import build, component_class
from harness.protocols import Loss, RankedLogps

Row = Sequence[float]
NAMES = sorted(p.stem for p in Path(harness.losses.__path__[0]).glob("*.py") if not p.stem.startswith("_"))


def takes(name: str, option: str) -> bool:
    return option in component_class("loss", name).model_fields


def a_loss(name: str, **fields: Any) -> Loss:
    """A loss with those of the fields that it takes."""
    component = build("loss", {"name": name, **{k: v for k, v in fields.items() if takes(name, k)}})
    assert callable(component)
    return component


def each(change: Callable[[torch.Tensor], torch.Tensor], batch: RankedLogps) -> RankedLogps:
    """A batch with every tensor changed."""
    return RankedLogps(*(None if tensor is None else change(tensor) for tensor in batch))


def gradient(loss: Loss, batch: RankedLogps) -> torch.Tensor:
    """Of the sum of losses, by the policy's log-probabilities."""
    losses = loss(batch)[0].sum()
    # Where no loss touches the log-probabilities at all, there is no graph to go back through.
    return torch.autograd.grad(losses + 0.0 * batch.logps.nan_to_num(0.0, 0.0, 0.0).sum(), batch.logps)[0]


def batch_of(logps: Sequence[Row], scores: Sequence[Row], refs: Sequence[Row] | None = None) -> RankedLogps:
    """A float64 batch of prompts that may differ in N; `logps` requires grad. Reference 0 unless `refs` is given."""
    refs = refs or [[0.0] * len(row) for row in logps]
    width = max(len(row) for row in logps)

    def pad(rows: Sequence[Row]) -> torch.Tensor:
        return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows], dtype=torch.float64)

    mask = pad([[1.0] * len(row) for row in logps]).bool()
    return RankedLogps(pad(logps).requires_grad_(), pad(refs), pad(scores), mask.long() * 7, mask)


def random_batch(prompts: int = 5, responses: int = 4, seed: int = 0, spread: float = 8.0) -> RankedLogps:
    """Distinct scores in a random order, log-ratios of a size that leaves no sigmoid flat at beta 0.1. With draws."""
    generator = torch.Generator().manual_seed(seed)
    shape = (prompts, responses)
    scores = torch.rand(shape, generator=generator, dtype=torch.float64).argsort(dim=1).double() * 1.5 - 2.0
    refs = -100 * torch.rand(shape, generator=generator, dtype=torch.float64)
    logps = (refs + spread * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()
    mask = torch.ones(shape, dtype=torch.bool)
    draws = torch.rand(shape, generator=generator, dtype=torch.float64)
    return RankedLogps(logps, refs, scores, mask.long() * 9, mask, draws)


def rewards_best_first(batch: RankedLogps, row: int, beta: float) -> list[float]:
    """One prompt's implicit rewards in order of falling score, as Python floats."""
    kept = [i for i, real in enumerate(batch.mask[row].tolist()) if real]
    kept.sort(key=lambda i: -batch.scores[row, i].item())
    return [beta * (batch.logps[row, i].item() - batch.ref_logps[row, i].item()) for i in kept]


def dpo_term(margin: float) -> float:
    """-log sigmoid(margin)."""
    return math.log1p(math.exp(-margin)) if margin > 0 else -margin + math.log1p(math.exp(margin))
