"""IPO on all pairs of each prompt's responses."""

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.losses._base import WithLogRatios, WithTieMargin
from harness.losses._tensors import differences, implicit_rewards, masked_mean

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class IpoPairs(WithTieMargin, WithLogRatios):
    """Mean over i beats j of (s_i - s_j - 1/(2 beta))^2, with s = log(pi / pi_ref): IPO (2310.12036, eq. 17; beta is
    its tau) on all N(N-1)/2 pairs.

    s is per token unless `length_norm: false`, as in TRL, whose authors confirmed this with those of IPO; the paper
    does not mention it. A smaller beta demands a larger margin. It is a regression on that margin rather than the
    logarithm of a probability: no label smoothing. N=2 is IPO, not DPO. Ties: only strict pairs count. All tied: loss
    0, not valid.
    """

    on_pairs: ClassVar[bool] = True

    name: Literal["ipo_pairs"] = "ipo_pairs"
    length_norm: bool = True
    """Divide log-ratios by the response's length in tokens, as TRL does."""

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and [B, N, N] pairs."""
        margins = differences(implicit_rewards(batch, 1.0, length_norm=self.length_norm))
        return masked_mean((margins - 1 / (2 * self.beta)).square(), pairs, dim=(1, 2))
