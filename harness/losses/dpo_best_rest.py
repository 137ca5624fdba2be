"""DPO on the best response of each prompt against every other."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.components import Component
from harness.ranking import extreme_responses, implicit_rewards, pairwise_loss, strict_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class DpoBestRest(Component):
    """1/(N-1) sum_{j>1} -log sigmoid(r_1 - r_j), with r = beta log(pi / pi_ref): one of the two ways to make N-1 DPO
    (2305.18290, eq. 7) pairs of a ranked list.

    All pairs of a prompt are computed from one forward of its N responses; the gradient is that of N-1 separate rows.
    Several tied best: the mean over all (tied best, lower) pairs. N=2 is DPO. All tied: loss 0, not valid.
    """

    name: Literal["dpo_best_rest"] = "dpo_best_rest"
    beta: float = Field(0.1, gt=0, allow_inf_nan=False)

    def __call__(self, batch: "RankedLogps") -> "tuple[Tensor, Tensor]":
        """(losses [B], valid [B]) from [B, N] log-probabilities, scores and mask."""
        pairs = strict_pairs(batch.scores, batch.mask)
        best, _ = extreme_responses(pairs)
        return pairwise_loss(implicit_rewards(batch, self.beta), pairs & best[:, :, None])
