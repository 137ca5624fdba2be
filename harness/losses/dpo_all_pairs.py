"""DPO on all pairs of each prompt's responses."""

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.losses._base import DpoLoss
from harness.losses._tensors import beaten_and_beating, differences, wide

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class DpoAllPairs(DpoLoss):
    """Weighted mean over i beats j of -log sigmoid(r_i - r_j), with r = beta log(pi / pi_ref): DPO (2305.18290, eq. 7)
    on all N(N-1)/2 pairs.

    `weights`: `uniform`, all pairs equal; `rank`, the gap in rank j - i; `score`, the gap in score g_i - g_j. They are
    divided by their sum, so the scale of the scores doesn't matter.

    With uniform weights it is never below `mdpo_linear` with `normalise: pairs` (Jensen: the sigmoid's logarithm is
    concave), and has the same value and gradient where policy and reference agree. The same holds if both have
    `weights: score`.
    Ties: only strict pairs count, and tied responses share a mid-rank. N=2 is DPO. All tied: loss 0, not valid.
    """

    on_pairs: ClassVar[bool] = True

    name: Literal["dpo_all_pairs"] = "dpo_all_pairs"
    weights: Literal["uniform", "rank", "score"] = "uniform"

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and scores, and [B, N, N] pairs."""
        return self.over_pairs(self.rewards(batch), self._pair_weights(batch.scores, pairs))

    def _pair_weights(self, scores: "Tensor", pairs: "Tensor") -> "Tensor":
        """[B, N, N]; 0 where there is no pair."""
        match self.weights:
            case "uniform":
                return pairs
            case "rank":
                beaten, beating = beaten_and_beating(pairs)
                # Twice the gap between mid-ranks.
                return differences(beaten - beating).masked_fill(~pairs, 0)
            case "score":
                return differences(wide(scores)).masked_fill(~pairs, 0.0)
