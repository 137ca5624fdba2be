"""DPO on all pairs of each prompt's responses."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.components import Component
from harness.ranking import implicit_rewards, pairwise_loss, strict_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class DpoAllPairs(Component):
    """Mean over i beats j of -log sigmoid(r_i - r_j), with r = beta log(pi / pi_ref): DPO (2305.18290, eq. 7) on all
    N(N-1)/2 pairs, each with the same weight.

    Never below `mdpo_linear` with `normalise: pairs` (Jensen: the sigmoid's logarithm is concave), and equal to it in
    value and gradient where policy and reference agree. Ties: only strict pairs count. N=2 is DPO. All tied: loss 0,
    not valid.
    """

    name: Literal["dpo_all_pairs"] = "dpo_all_pairs"
    beta: float = Field(0.1, gt=0, allow_inf_nan=False)

    def __call__(self, batch: "RankedLogps") -> "tuple[Tensor, Tensor]":
        """(losses [B], valid [B]) from [B, N] log-probabilities, scores and mask."""
        return pairwise_loss(implicit_rewards(batch, self.beta), strict_pairs(batch.scores, batch.mask))
