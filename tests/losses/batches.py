"""Batches of ranked log-probabilities for the loss tests, and the literal DPO term in float64."""

import math
from collections.abc import Sequence

import torch

from harness.protocols import RankedLogps

Row = Sequence[float]


def batch_of(logps: Sequence[Row], scores: Sequence[Row], refs: Sequence[Row] | None = None) -> RankedLogps:
    """A float64 batch of prompts that may differ in N; `logps` requires grad. Reference 0 unless `refs` is given."""
    refs = refs or [[0.0] * len(row) for row in logps]
    width = max(len(row) for row in logps)

    def pad(rows: Sequence[Row]) -> torch.Tensor:
        return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows], dtype=torch.float64)

    mask = pad([[1.0] * len(row) for row in logps]).bool()
    return RankedLogps(pad(logps).requires_grad_(), pad(refs), pad(scores), mask.long() * 7, mask)


def random_batch(prompts: int = 5, responses: int = 4, seed: int = 0, spread: float = 8.0) -> RankedLogps:
    """Distinct scores in a random order, log-ratios of a size that leaves no sigmoid flat at beta 0.1."""
    generator = torch.Generator().manual_seed(seed)
    shape = (prompts, responses)
    scores = torch.rand(shape, generator=generator, dtype=torch.float64).argsort(dim=1).double() * 1.5 - 2.0
    refs = -100 * torch.rand(shape, generator=generator, dtype=torch.float64)
    logps = (refs + spread * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()
    mask = torch.ones(shape, dtype=torch.bool)
    return RankedLogps(logps, refs, scores, mask.long() * 9, mask)


def rewards_best_first(batch: RankedLogps, row: int, beta: float) -> list[float]:
    """One prompt's implicit rewards in order of falling score, as Python floats."""
    kept = [i for i, real in enumerate(batch.mask[row].tolist()) if real]
    kept.sort(key=lambda i: -batch.scores[row, i].item())
    return [beta * (batch.logps[row, i].item() - batch.ref_logps[row, i].item()) for i in kept]


def dpo_term(margin: float) -> float:
    """-log sigmoid(margin)."""
    return math.log1p(math.exp(-margin)) if margin > 0 else -margin + math.log1p(math.exp(margin))
