"""Tensor pieces that ranking losses and ranking metrics share: implicit rewards, preference pairs, masked means.

Shapes: B prompts, N responses (padded on the right), [B, N, N] for ordered pairs (i, j) where i is the better one. The
order of responses comes from their scores, never from their position. Only strict preferences count: responses with
equal scores are not a pair. What `mask` rules out changes no value and gets no gradient, whatever it holds.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps

LOGP_LIMIT = 1e8
"""Log-probabilities are held within ±this many nats, so that an infinite one gives a huge but finite reward (and no
gradient of its own) in place of the NaN that infinity minus infinity would be."""


def wide(values: "Tensor") -> "Tensor":
    """`values` in float32, or wider where they are."""
    import torch

    return values.to(torch.promote_types(values.dtype, torch.float32))


def implicit_rewards(batch: "RankedLogps", beta: float) -> "Tensor":
    """beta * (log pi(y|x) - log pi_ref(y|x)), [B, N], float32; 0 where the mask is False. DPO (2305.18290), eq. 5
    without its partition function, which cancels in differences."""
    policy, reference = (
        wide(v).masked_fill(~batch.mask, 0.0).clamp(-LOGP_LIMIT, LOGP_LIMIT) for v in (batch.logps, batch.ref_logps)
    )
    return beta * (policy - reference)


def strict_pairs(scores: "Tensor", mask: "Tensor") -> "Tensor":
    """[B, N, N] bool: True at (i, j) where both are real and i scored strictly higher than j."""
    real = mask[:, :, None] & mask[:, None, :]
    return (scores[:, :, None] > scores[:, None, :]) & real


def extreme_responses(pairs: "Tensor") -> tuple["Tensor", "Tensor"]:
    """(best, worst) [B, N] bool of the responses that take part in a strict pair: those that nothing beats, and those
    that beat nothing. Tied ones are all there; in an all-tied group there are none."""
    wins, losses = pairs.any(dim=2), pairs.any(dim=1)
    return wins & ~losses, losses & ~wins


def masked_mean(values: "Tensor", mask: "Tensor", dim: "int | tuple[int, ...]") -> "Tensor":
    """Mean over where `mask` is True; 0 where it is nowhere."""
    total = values.masked_fill(~mask, 0.0).sum(dim)
    return total / mask.sum(dim).clamp(min=1)


def pairwise_loss(rewards: "Tensor", weights: "Tensor") -> tuple["Tensor", "Tensor"]:
    """Weighted mean of -log sigmoid(r_i - r_j) over pairs, with which prompts have any: (losses [B], valid [B]).

    rewards: [B, N]. weights: [B, N, N], not negative, 0 for what is no pair; they need not sum to 1.
    """
    from torch.nn.functional import softplus

    weights = weights.to(rewards.dtype)
    counted = weights > 0
    margins = (rewards[:, :, None] - rewards[:, None, :]).masked_fill(~counted, 0.0)
    valid = counted.flatten(1).any(dim=1)
    total = weights.sum(dim=(1, 2)).masked_fill(~valid, 1.0)
    return (softplus(-margins) * weights).sum(dim=(1, 2)) / total, valid
