"""DPO on the best and the worst response of each prompt."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.components import Component
from harness.ranking import extreme_responses, implicit_rewards, pairwise_loss, strict_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class DpoBestWorst(Component):
    """-log sigmoid(r_best - r_worst), with r = beta log(pi / pi_ref): DPO (2305.18290, eq. 7) on one pair a prompt.

    The responses between are not looked at. Several tied best or worst: the mean over all (tied best, tied worst)
    pairs. N=2 is DPO. All tied: loss 0, not valid.
    """

    name: Literal["dpo_best_worst"] = "dpo_best_worst"
    beta: float = Field(0.1, gt=0, allow_inf_nan=False)

    def __call__(self, batch: "RankedLogps") -> "tuple[Tensor, Tensor]":
        """(losses [B], valid [B]) from [B, N] log-probabilities, scores and mask."""
        best, worst = extreme_responses(strict_pairs(batch.scores, batch.mask))
        return pairwise_loss(implicit_rewards(batch, self.beta), best[:, :, None] & worst[:, None, :])
