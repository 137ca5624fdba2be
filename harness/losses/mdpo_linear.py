"""Multi-DPO: one sigmoid over a normalised weighted sum of all N implicit rewards. A reconstruction."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.components import Component
from harness.ranking import implicit_rewards, strict_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class MdpoLinear(Component):
    """-log sigmoid(sum_i w_i r_i), with r = beta log(pi / pi_ref) and w_i = (#worse_i - #better_i) / Z.

    This is a RECONSTRUCTION of Multi-DPO (2412.07812) from what its abstract says: a "normalized weighted sum" over
    "all pairwise comparisons" that is DPO at n=2. The paper's own equation was not to be had.

    It is the joint likelihood over all pairs with the sum moved inside the sigmoid: sum_{i beats j} (r_i - r_j) gives
    response i of N the weight N+1-2i, so (3, 1, -1, -3) at N=4. `normalise` sets Z, which at a fixed N only rescales
    beta: `pairs` the number of pairs, N(N-1)/2 (weights 1/2, 1/6, -1/6, -1/2), which keeps beta comparable over N;
    `l1` makes the positive weights sum to 1; `max` makes the largest weight 1; `none` leaves Z = 1.

    `weights: score` weighs pair (i, j) by its score gap g_i - g_j, so that w_i is proportional to g_i - mean(g); Z
    follows (`pairs`: the sum of the gaps). Ties: only strict pairs count, so that tied responses share a mid-rank.
    N=2 is DPO, whatever the scores (with `none` and `score`: at beta times the gap). All tied: loss 0, not valid.
    """

    name: Literal["mdpo_linear"] = "mdpo_linear"
    beta: float = Field(0.1, gt=0, allow_inf_nan=False)
    normalise: Literal["pairs", "l1", "max", "none"] = "pairs"
    weights: Literal["rank", "score"] = "rank"

    def __call__(self, batch: "RankedLogps") -> "tuple[Tensor, Tensor]":
        """(losses [B], valid [B]) from [B, N] log-probabilities, scores and mask."""
        from torch.nn.functional import softplus

        rewards = implicit_rewards(batch, self.beta)
        pairs = strict_pairs(batch.scores, batch.mask)
        gaps = (batch.scores[:, :, None] - batch.scores[:, None, :]).to(rewards.dtype)
        pair_weights = gaps.masked_fill(~pairs, 0.0) if self.weights == "score" else pairs.to(rewards.dtype)
        weights = pair_weights.sum(dim=2) - pair_weights.sum(dim=1)
        valid = pairs.flatten(1).any(dim=1)
        total = self._total(weights, pair_weights).masked_fill(~valid, 1.0)
        argument = (weights * rewards).sum(dim=1) / total
        return softplus(-argument).masked_fill(~valid, 0.0), valid

    def _total(self, weights: "Tensor", pair_weights: "Tensor") -> "Tensor":
        """Z [B]; 0 for an all-tied prompt unless `normalise` is `none`."""
        match self.normalise:
            case "pairs":
                return pair_weights.sum(dim=(1, 2))
            case "l1":
                return weights.abs().sum(dim=1) / 2
            case "max":
                return weights.abs().amax(dim=1)
            case "none":
                return weights.new_ones(len(weights))
