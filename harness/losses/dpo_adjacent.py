"""DPO on neighbours in the ranking: the naive conversion of N ranked responses into N-1 pairs."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.components import Component
from harness.ranking import implicit_rewards, pairwise_loss, strict_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class DpoAdjacent(Component):
    """1/(N-1) sum_i -log sigmoid(r_i - r_{i+1}), with r = beta log(pi / pi_ref): DPO (2305.18290, eq. 7) on the pairs
    of consecutive ranks.

    All pairs of a prompt are computed from one forward of its N responses; the gradient is that of N-1 separate rows.
    Ties: consecutive *distinct* scores are compared, each such comparison being the mean over its (upper, lower)
    pairs and all comparisons weighing the same. N=2 is DPO. All tied: loss 0, not valid.
    """

    name: Literal["dpo_adjacent"] = "dpo_adjacent"
    beta: float = Field(0.1, gt=0, allow_inf_nan=False)

    def __call__(self, batch: "RankedLogps") -> "tuple[Tensor, Tensor]":
        """(losses [B], valid [B]) from [B, N] log-probabilities, scores and mask."""
        scores, mask = batch.scores, batch.mask
        rewards = implicit_rewards(batch, self.beta)
        pairs = strict_pairs(scores, mask)
        # i > k > j for some k: the pair (i, j) skips a level.
        skips = (pairs[:, :, :, None] & pairs[:, None, :, :]).any(dim=2)
        tied = ((scores[:, :, None] == scores[:, None, :]) & mask[:, None, :]).sum(dim=2).clamp(min=1)
        weights = (pairs & ~skips).to(rewards.dtype) / (tied[:, :, None] * tied[:, None, :])
        return pairwise_loss(rewards, weights)
