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


def held_logps(logps: "Tensor", mask: "Tensor") -> "Tensor":
    """Log-probabilities [B, N] in float32 or wider, within ±LOGP_LIMIT; 0 where the mask is False."""
    return wide(logps).masked_fill(~mask, 0.0).clamp(-LOGP_LIMIT, LOGP_LIMIT)


def token_counts(batch: "RankedLogps") -> "Tensor":
    """Lengths [B, N] to divide by: at least 1, whatever stands in padding."""
    return batch.lengths.masked_fill(~batch.mask, 1).clamp(min=1)


def implicit_rewards(batch: "RankedLogps", beta: float, *, length_norm: bool = False) -> "Tensor":
    """beta * (log pi(y|x) - log pi_ref(y|x)), [B, N], float32; 0 where the mask is False. DPO (2305.18290), eq. 5
    without its partition function, which cancels in differences. `length_norm`: the log-ratio is divided by the
    response's length in tokens."""
    ratios = held_logps(batch.logps, batch.mask) - held_logps(batch.ref_logps, batch.mask)
    return beta * (ratios / token_counts(batch) if length_norm else ratios)


def strict_pairs(scores: "Tensor", mask: "Tensor", tie_margin: float = 0.0) -> "Tensor":
    """[B, N, N] bool: True at (i, j) where both are real and i's score is more than `tie_margin` above j's.

    "Within the margin" is not transitive: of 0.0, 0.6 and 1.2 with a margin of 1, only the ends are a pair and the
    middle one is tied with both. So ties are told pair by pair, and nothing is chained into a level: what this gives
    is a strict partial order (a semiorder), whatever the margin.
    """
    return (differences(wide(scores)) > tie_margin) & mask[:, :, None] & mask[:, None, :]


def extreme_responses(pairs: "Tensor") -> tuple["Tensor", "Tensor"]:
    """(best, worst) [B, N] bool of the responses that take part in a strict pair: those that nothing beats, and those
    that beat nothing. Tied ones are all there; in an all-tied group there are none."""
    wins, losses = pairs.any(dim=2), pairs.any(dim=1)
    return wins & ~losses, losses & ~wins


def beaten_and_beating(pairs: "Tensor") -> tuple["Tensor", "Tensor"]:
    """[B, N] integers: how many responses each one beats, and how many beat it."""
    return pairs.sum(dim=2), pairs.sum(dim=1)


def differences(values: "Tensor") -> "Tensor":
    """[B, N, N] from [B, N]: that of i less that of j."""
    return values[:, :, None] - values[:, None, :]


def masked_mean(values: "Tensor", mask: "Tensor", dim: "int | tuple[int, ...]") -> "Tensor":
    """Mean over where `mask` is True; 0 where it is nowhere."""
    total = values.masked_fill(~mask, 0.0).sum(dim)
    return total / mask.sum(dim).clamp(min=1)


def masked_logsumexp(values: "Tensor", mask: "Tensor", dim: int) -> "Tensor":
    """log sum exp over where `mask` is True; hugely negative, but finite, where it is nowhere."""
    import torch

    # Not -inf: the logsumexp over nothing but -inf has NaN gradients.
    return values.masked_fill(~mask, torch.finfo(values.dtype).min / 2).logsumexp(dim)


def logistic_loss(margins: "Tensor", label_smoothing: float = 0.0) -> "Tensor":
    """(1 - e) * -log sigmoid(m) + e * -log sigmoid(-m), elementwise: with probability e = `label_smoothing` the
    preference is taken to be the other way round (conservative DPO, https://ericmitchell.ai/cdpo.pdf)."""
    from torch.nn.functional import softplus

    return softplus(-margins) + label_smoothing * margins  # softplus(m) = softplus(-m) + m


def choice_losses(rewards: "Tensor", pairs: "Tensor", label_smoothing: float = 0.0) -> "Tensor":
    """-log of the chance that i is chosen from itself and those it beats, under Plackett-Luce with strengths exp(r):
    [B, N]; 0 for a response that beats none. It is softplus(logsumexp_{j worse than i} r_j - r_i)."""
    chooses = pairs.any(dim=2)
    worse = masked_logsumexp(rewards[:, None, :].expand(pairs.shape), pairs, dim=2)
    margins = rewards - worse.masked_fill(~chooses, 0.0)
    return logistic_loss(margins, label_smoothing).masked_fill(~chooses, 0.0)


def pairwise_loss(
    rewards: "Tensor", weights: "Tensor", label_smoothing: float = 0.0, margin: float = 0.0
) -> tuple["Tensor", "Tensor"]:
    """Weighted mean of -log sigmoid(r_i - r_j - margin) over pairs, with which prompts have any: (losses [B], valid
    [B]). `label_smoothing` as in `logistic_loss`.

    rewards: [B, N]. weights: [B, N, N], not negative, 0 for what is no pair; they need not sum to 1.
    """
    weights = weights.to(rewards.dtype)
    counted = weights > 0
    margins = (differences(rewards) - margin).masked_fill(~counted, 0.0)
    valid = counted.flatten(1).any(dim=1)
    total = weights.sum(dim=(1, 2)).masked_fill(~valid, 1.0)
    return (logistic_loss(margins, label_smoothing) * weights).sum(dim=(1, 2)) / total, valid


def comparisons(mask: "Tensor") -> "Tensor":
    """[B, N, N] bool: True at (i, j) where both are real and two responses, in either order, tied or not."""
    import torch

    same = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return mask[:, :, None] & mask[:, None, :] & ~same


def score_gaps(scores: "Tensor", pairs: "Tensor") -> "Tensor":
    """[B, N, N]: g_i - g_j where one of the two beats the other; 0 for ties and padding."""
    return differences(wide(scores)).masked_fill(~(pairs | pairs.transpose(1, 2)), 0.0)


def soft_targets(scores: "Tensor", mask: "Tensor", temperature: float) -> "Tensor":
    """softmax(scores / temperature) over what is real, [B, N]; 0 for padding."""
    import torch

    scores = wide(scores).masked_fill(~mask, -torch.inf)
    # From the best downwards before the division: a temperature near 0 then overflows to -inf, not to NaN.
    below = (scores - scores.amax(dim=1, keepdim=True)).masked_fill(~mask, -torch.inf)
    return (below / temperature).softmax(dim=1).masked_fill(~mask, 0.0)
