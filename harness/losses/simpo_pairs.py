"""SimPO on all pairs of each prompt's responses: no reference, a target margin."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.losses._base import WithLabelSmoothing, WithTieMargin, mean_logps

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class SimpoPairs(WithTieMargin, WithLabelSmoothing):
    """Mean over i beats j of -log sigmoid(r_i - r_j - gamma), with r = beta log(pi) per token: SimPO (2405.14734,
    eq. 6) on all N(N-1)/2 pairs.

    The reference is not used, and lengths always are. The defaults, beta 2 and gamma / beta 1/4, are those of the
    authors' trainer; their released models have 2 to 10 and 0.1 to 0.8. N=2 is SimPO, not DPO. Ties: only strict pairs
    count. All tied: loss 0, not valid.
    """

    on_pairs: ClassVar[bool] = True

    name: Literal["simpo_pairs"] = "simpo_pairs"
    beta: float = Field(2.0, gt=0)
    """The factor of log-probabilities per token."""
    gamma: float = Field(0.5, ge=0)
    """The target margin."""

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and lengths, and [B, N, N] pairs."""
        return self.over_pairs(self.beta * mean_logps(batch), pairs, margin=self.gamma)
