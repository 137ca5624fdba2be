"""RPO, backward KL: preferences with the probabilities implied by the scores (DPO with soft labels)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.losses._base import WithLogRatios, WithTieMargin
from harness.losses._tensors import comparisons, differences, logistic_loss, masked_mean, score_gaps

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class RpoBwd(WithTieMargin, WithLogRatios):
    """Mean over the N(N-1)/2 comparisons of KL(sigmoid(eta (g_i - g_j)) || sigmoid(r_i - r_j)) between Bernoulli
    distributions, with g the scores and r = beta log(pi / pi_ref): RPO (2502.00203) with the backward KL.

    The scores' scale matters, in units of 1/`eta`: at 1, sigmoid(eta (g_i - g_j)) is the preference's probability
    according to a reward model trained by Bradley-Terry (NeMo-Aligner has eta 1 and beta 0.2). The optimum is finite,
    at r_i - r_j = eta (g_i - g_j), so margins do not grow without bound. Labels are soft already: no label smoothing.
    Its gradient is that of DPO with soft labels. N=2 is DPO with soft labels less the label's entropy. Ties are
    comparisons with target 1/2: they pull the two rewards together. All tied: loss 0, not valid.
    """

    name: Literal["rpo_bwd"] = "rpo_bwd"
    eta: float = Field(1.0, gt=0)
    """The factor of the scores' differences, which are the log-odds of the target."""

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and scores, and [B, N, N] pairs."""
        margins = differences(self.rewards(batch))
        targets = self.eta * score_gaps(batch.scores, pairs).to(margins.dtype)
        kl = _cross_entropy(targets, margins) - _cross_entropy(targets, targets)
        return masked_mean(kl, comparisons(batch.mask), dim=(1, 2))


def _cross_entropy(targets: "Tensor", logits: "Tensor") -> "Tensor":
    """The cross-entropy of sigmoid(logits) under sigmoid(targets)."""
    return targets.sigmoid() * logistic_loss(logits) + (-targets).sigmoid() * logistic_loss(-logits)
