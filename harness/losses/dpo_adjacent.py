"""DPO on neighbours in the ranking: the naive conversion of N ranked responses into N-1 pairs."""

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.losses._base import DpoLoss
from harness.losses._tensors import beaten_and_beating, differences

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class DpoAdjacent(DpoLoss):
    """1/(N-1) sum_i -log sigmoid(r_i - r_{i+1}), with r = beta log(pi / pi_ref): DPO (2305.18290, eq. 7) on the pairs
    of consecutive ranks.

    All pairs of a prompt are computed from one forward of its N responses; the gradient is that of N-1 separate rows.
    Ties: consecutive *distinct* scores are compared. Each such comparison is the mean over its (upper, lower) pairs,
    and all comparisons have the same weight. N=2 is DPO. All tied: loss 0, not valid.

    With a tie margin there may be no levels ("within the margin" is not transitive). i and j are then neighbours if i
    beats j and no third response is worse than i and better than j; responses that beat, and are beaten by, the same
    others form a level. Without a margin this is equivalent to the rule above.
    """

    on_pairs: ClassVar[bool] = True

    name: Literal["dpo_adjacent"] = "dpo_adjacent"

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and [B, N, N] pairs."""
        rewards = self.rewards(batch)
        # i > k > j for some k: the pair (i, j) skips a level.
        skips = (pairs[:, :, :, None] & pairs[:, None, :, :]).any(dim=2)
        # A response beats the lowest-scored ones, so their number identifies them; likewise for those that beat it.
        beaten, beating = beaten_and_beating(pairs)
        level = ((differences(beaten) == 0) & (differences(beating) == 0)).sum(dim=2)
        weights = (pairs & ~skips).to(rewards.dtype) / (level[:, :, None] * level[:, None, :])
        return self.over_pairs(rewards, weights)
