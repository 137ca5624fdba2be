"""Tensor operations shared by ranking losses and ranking metrics: implicit rewards, preference pairs, masked means.

Shapes: B prompts, N responses (padded on the right), [B, N, N] for ordered pairs (i, j) where i is the better one. The
order of responses comes from their scores, never from their position. Only strict preferences count: responses with
equal scores are not a pair. Masked-out entries affect no value and get no gradient, whatever they hold.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps

LOGP_LIMIT = 1e8
"""Log-probabilities are clamped to ±this many nats. An infinite one then gives a huge but finite reward (without a
gradient of its own), rather than the NaN of infinity minus infinity."""


def wide(values: "Tensor") -> "Tensor":
    """`values` in float32, or in their own dtype if that is wider."""
    import torch

    return values.to(torch.promote_types(values.dtype, torch.float32))


def held_logps(logps: "Tensor", mask: "Tensor") -> "Tensor":
    """Log-probabilities [B, N] in float32 or wider, within ±LOGP_LIMIT; 0 where the mask is False."""
    return wide(logps).masked_fill(~mask, 0.0).clamp(-LOGP_LIMIT, LOGP_LIMIT)


def token_counts(batch: "RankedLogps") -> "Tensor":
    """Lengths [B, N] to divide by: at least 1, whatever padding holds."""
    return batch.lengths.masked_fill(~batch.mask, 1).clamp(min=1)


def implicit_rewards(batch: "RankedLogps", beta: float, *, length_norm: bool = False) -> "Tensor":
    """beta * (log pi(y|x) - log pi_ref(y|x)), [B, N], float32; 0 where the mask is False. DPO (2305.18290), eq. 5
    without its partition function, which cancels in differences. `length_norm` divides the log-ratio by the response's
    length in tokens."""
    ratios = held_logps(batch.logps, batch.mask) - held_logps(batch.ref_logps, batch.mask)
    return beta * (ratios / token_counts(batch) if length_norm else ratios)


def strict_pairs(scores: "Tensor", mask: "Tensor", tie_margin: float = 0.0) -> "Tensor":
    """[B, N, N] bool: True at (i, j) if both are real and i's score is above j's by more than `tie_margin`.

    "Within the margin" is not transitive: of 0.0, 0.6 and 1.2 with a margin of 1, only the ends are a pair, and the
    middle one is tied with both. So ties are decided pair by pair and not chained into levels: the result is a strict
    partial order (a semiorder) for any margin.
    """
    return (differences(wide(scores)) > tie_margin) & mask[:, :, None] & mask[:, None, :]


def extreme_responses(pairs: "Tensor") -> tuple["Tensor", "Tensor"]:
    """(best, worst) [B, N] bool, among the responses that are in a strict pair: those that none beats, and those that
    beat none. Tied ones are all included; an all-tied group has neither."""
    wins, losses = pairs.any(dim=2), pairs.any(dim=1)
    return wins & ~losses, losses & ~wins


def beaten_and_beating(pairs: "Tensor") -> tuple["Tensor", "Tensor"]:
    """[B, N] integers: the number of responses that each one beats, and the number that beat it."""
    return pairs.sum(dim=2), pairs.sum(dim=1)


def differences(values: "Tensor") -> "Tensor":
    """[B, N, N] from [B, N]: the value of i minus that of j."""
    return values[:, :, None] - values[:, None, :]


def masked_mean(values: "Tensor", mask: "Tensor", dim: "int | tuple[int, ...]") -> "Tensor":
    """Mean over the entries where `mask` is True; 0 if there are none."""
    total = values.masked_fill(~mask, 0.0).sum(dim)
    return total / mask.sum(dim).clamp(min=1)


def masked_logsumexp(values: "Tensor", mask: "Tensor", dim: int) -> "Tensor":
    """log sum exp over the entries where `mask` is True; hugely negative, but finite, if there are none."""
    import torch

    # Not -inf: a logsumexp over only -inf has NaN gradients.
    return values.masked_fill(~mask, torch.finfo(values.dtype).min / 2).logsumexp(dim)


def logistic_loss(margins: "Tensor", label_smoothing: float = 0.0) -> "Tensor":
    """(1 - e) * -log sigmoid(m) + e * -log sigmoid(-m), elementwise; e = `label_smoothing` is the assumed probability
    that a preference is reversed (conservative DPO, https://ericmitchell.ai/cdpo.pdf)."""
    from torch.nn.functional import softplus

    return softplus(-margins) + label_smoothing * margins  # softplus(m) = softplus(-m) + m


def choice_losses(rewards: "Tensor", pairs: "Tensor", label_smoothing: float = 0.0) -> "Tensor":
    """[B, N]: -log of the probability that i is chosen from among itself and those it beats, under Plackett-Luce with
    strengths exp(r); 0 for a response that beats none. Equals softplus(logsumexp_{j worse than i} r_j - r_i)."""
    chooses = pairs.any(dim=2)
    worse = masked_logsumexp(rewards[:, None, :].expand(pairs.shape), pairs, dim=2)
    margins = rewards - worse.masked_fill(~chooses, 0.0)
    return logistic_loss(margins, label_smoothing).masked_fill(~chooses, 0.0)


def pairwise_loss(
    rewards: "Tensor", weights: "Tensor", label_smoothing: float = 0.0, margin: float = 0.0
) -> tuple["Tensor", "Tensor"]:
    """(losses [B], valid [B]): the weighted mean of -log sigmoid(r_i - r_j - margin) over pairs, and which prompts have
    any. `label_smoothing` as in `logistic_loss`.

    rewards: [B, N]. weights: [B, N, N], non-negative, 0 where there is no pair; they need not sum to 1.
    """
    weights = weights.to(rewards.dtype)
    counted = weights > 0
    margins = (differences(rewards) - margin).masked_fill(~counted, 0.0)
    valid = counted.flatten(1).any(dim=1)
    total = weights.sum(dim=(1, 2)).masked_fill(~valid, 1.0)
    return (logistic_loss(margins, label_smoothing) * weights).sum(dim=(1, 2)) / total, valid


def comparisons(mask: "Tensor") -> "Tensor":
    """[B, N, N] bool: True at (i, j) if both are real and different responses, in either order, tied or not."""
    import torch

    same = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return mask[:, :, None] & mask[:, None, :] & ~same


def score_gaps(scores: "Tensor", pairs: "Tensor") -> "Tensor":
    """[B, N, N]: g_i - g_j if one of the two beats the other; 0 for ties and padding."""
    return differences(wide(scores)).masked_fill(~(pairs | pairs.transpose(1, 2)), 0.0)


def soft_targets(scores: "Tensor", mask: "Tensor", temperature: float) -> "Tensor":
    """[B, N]: softmax(scores / temperature) over the real responses; 0 for padding."""
    import torch

    scores = wide(scores).masked_fill(~mask, -torch.inf)
    # Subtract the best before dividing: a temperature near 0 then overflows to -inf, not to NaN.
    below = (scores - scores.amax(dim=1, keepdim=True)).masked_fill(~mask, -torch.inf)
    return (below / temperature).softmax(dim=1).masked_fill(~mask, 0.0)
