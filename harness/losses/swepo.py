"""SWEPO: the responses above the mean score against those below, each weighted by how far it is away. Partly a
reconstruction."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.losses._base import WithLabelSmoothing, WithLogRatios
from harness.losses._tensors import extreme_responses, masked_logsumexp

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps

ROUNDING = 4 * 2.0**-24
"""A score this near to its prompt's mean is at the mean; as a share of the prompt's largest absolute score.

Scores are float32: each is off by up to 2^-24 of its size, and so is their mean. Adding an offset rounds both once
more. A difference within the sum of these four errors does not tell on which side of the mean the score lies."""


class Swepo(WithLogRatios, WithLabelSmoothing):
    """-log [sum_{i in Y+} w_i exp(r_i) / sum_i w_i exp(r_i)], with w_i = exp(alpha |g_i - mean(g)|), Y+ the responses
    whose score g is above their prompt's mean, and r = beta log(pi / pi_ref): SWEPO (2412.04628).

    Partly a RECONSTRUCTION: the split and the weights above the mean are from a summary of the paper; that those below
    it weigh more, too, the further away they are, was not established from its text.

    The scores' scale matters, in units of 1/`alpha`: 0 leaves the weights out, and 1/std(g) is a scale to try. A score
    at the mean is not in Y+; within `ROUNDING` of the mean is at it, so that an offset of the scores changes nothing.
    The best are always in Y+. Because the split is at the mean and not by pairs there is no tie margin, and ties need
    no rule of their own. N=2 is DPO, whatever alpha. `label_smoothing` takes the two sides for swapped with that
    probability. All tied: loss 0, not valid.
    """

    reconstruction: ClassVar[str | None] = (
        "swepo is partly a reconstruction of SWEPO (arXiv 2412.04628): the split and the weights above the mean are "
        "from a summary of the paper; the weights below it are inferred."
    )

    name: Literal["swepo"] = "swepo"
    alpha: float = Field(1.0, ge=0)
    """How steeply a response's weight grows with its score's distance from the mean; 0: all weigh the same."""

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and scores."""
        rewards, mask = self.rewards(batch), batch.mask
        # In float64: the only errors left are then those of the scores themselves.
        scores = batch.scores.double().masked_fill(~mask, 0.0)
        mean = scores.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        distance = (scores - mean).masked_fill(~mask, 0.0)
        best, _ = extreme_responses(pairs)  # above the mean, even where the scores differ by no more than rounding
        better = best | (distance > ROUNDING * scores.abs().amax(dim=1, keepdim=True))
        weighted = rewards + self.alpha * distance.abs().to(rewards.dtype)
        above = masked_logsumexp(weighted, mask & better, dim=1)
        below = masked_logsumexp(weighted, mask & ~better, dim=1)
        return self.logistic(above - below)
