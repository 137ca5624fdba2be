"""SWEPO: the responses above the mean score against those below, each weighted by how far it is away. Partly a
reconstruction."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.preference_loss import WithLabelSmoothing, WithLogRatios
from harness.ranking import masked_logsumexp, wide

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class Swepo(WithLogRatios, WithLabelSmoothing):
    """-log [sum_{i in Y+} w_i exp(r_i) / sum_i w_i exp(r_i)], with w_i = exp(alpha |g_i - mean(g)|), Y+ the responses
    whose score g is above their prompt's mean, and r = beta log(pi / pi_ref): SWEPO (2412.04628).

    Partly a RECONSTRUCTION: the split and the weights above the mean are from a summary of the paper; that those below
    it weigh more, too, the further away they are, was not established from its text.

    The scores' scale matters, in units of 1/`alpha`: 0 leaves the weights out, and 1/std(g) is a scale to try. A score
    at the mean is not in Y+. Because the split is at the mean and not by pairs there is no tie margin, and ties need no
    rule of their own. N=2 is DPO, whatever alpha. `label_smoothing` takes the two sides for swapped with that
    probability. All tied: loss 0, not valid.
    """

    name: Literal["swepo"] = "swepo"
    alpha: float = Field(1.0, ge=0)

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and scores."""
        import torch

        rewards, mask, scores = self.rewards(batch), batch.mask, wide(batch.scores)
        # Below the best rather than as they come: near scores that are large would otherwise round onto their mean.
        top = scores.masked_fill(~mask, -torch.inf).amax(dim=1, keepdim=True)
        scores = (scores - top).masked_fill(~mask, 0.0)
        centred = scores - scores.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        weighted = rewards + self.alpha * centred.abs().to(rewards.dtype)
        above = masked_logsumexp(weighted, mask & (centred > 0), dim=1)
        below = masked_logsumexp(weighted, mask & (centred <= 0), dim=1)
        return self.logistic(above - below)
