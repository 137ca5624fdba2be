"""InfoNCA: cross-entropy from the scores' softmax to the rewards' softmax."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.losses._base import WithLogRatios
from harness.losses._tensors import masked_logsumexp, soft_targets

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class Infonca(WithLogRatios):
    """-sum_i p_i log softmax(r)_i, with p = softmax(g / temperature), g the scores and r = beta log(pi / pi_ref):
    InfoNCA (2402.05369).

    The scores' scale matters, in units of `temperature`. At 1, p is the probability of being the best under a reward
    model trained by Bradley-Terry; towards 0 all of it goes to the best response and the loss becomes `sdpo` (the
    authors' script has 1e-4, and beta 0.01). Since p expresses by how much a response is better, there is no tie margin
    and no label smoothing. N=2 is DPO with soft labels, sigmoid((g_1 - g_2) / temperature), and DPO for a low
    temperature. Ties have equal targets. All tied: loss 0, not valid.
    """

    name: Literal["infonca"] = "infonca"
    temperature: float = Field(1.0, ge=1e-6)
    """The unit of the scores: towards 0 all of the target goes to the best response."""

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and scores."""
        rewards = self.rewards(batch)
        targets = soft_targets(batch.scores, batch.mask, self.temperature).to(rewards.dtype)
        return masked_logsumexp(rewards, batch.mask, dim=1) - (targets * rewards).sum(dim=1)
