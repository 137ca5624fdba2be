"""DPO on the best response of each prompt against every other."""

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.losses._base import DpoLoss
from harness.losses._tensors import extreme_responses

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class DpoBestRest(DpoLoss):
    """1/(N-1) sum_{j>1} -log sigmoid(r_1 - r_j), with r = beta log(pi / pi_ref): one of the two ways to form N-1 DPO
    (2305.18290, eq. 7) pairs from a ranked list.

    All pairs of a prompt are computed from one forward of its N responses; the gradient is that of N-1 separate rows.
    Several tied best: the mean over all (tied best, lower) pairs. N=2 is DPO. All tied: loss 0, not valid.
    """

    on_pairs: ClassVar[bool] = True

    name: Literal["dpo_best_rest"] = "dpo_best_rest"

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and [B, N, N] pairs."""
        best, _ = extreme_responses(pairs)
        return self.over_pairs(self.rewards(batch), pairs & best[:, :, None])
