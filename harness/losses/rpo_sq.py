"""RPO, squared: a regression of reward differences on score differences."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.losses._base import WithLogRatios, WithTieMargin
from harness.losses._tensors import comparisons, differences, masked_mean, score_gaps

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class RpoSq(WithTieMargin, WithLogRatios):
    """Mean over the N(N-1)/2 comparisons of ((r_i - r_j) - eta (g_i - g_j))^2, with g the scores and
    r = beta log(pi / pi_ref): RPO (2502.00203) with the squared distance.

    The scores' scale matters, in units of 1/`eta`: at 1, sigmoid(eta (g_i - g_j)) is the preference's probability
    according to a reward model trained by Bradley-Terry (NeMo-Aligner has eta 1 and beta 0.2). The optimum is finite,
    at r_i - r_j = eta (g_i - g_j), so margins do not grow without bound. Labels are soft already: no label smoothing.
    N=2 is the squared distance, not DPO. Ties are comparisons with target 0: they pull the two rewards together. All
    tied: loss 0, not valid.
    """

    name: Literal["rpo_sq"] = "rpo_sq"
    eta: float = Field(1.0, gt=0)
    """The factor of the scores' differences, which are the targets of the rewards' differences."""

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and scores, and [B, N, N] pairs."""
        margins = differences(self.rewards(batch))
        targets = self.eta * score_gaps(batch.scores, pairs).to(margins.dtype)
        return masked_mean((margins - targets).square(), comparisons(batch.mask), dim=(1, 2))
