"""DPO on the best and the worst response of each prompt."""

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.losses._base import DpoLoss
from harness.losses._tensors import extreme_responses

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class DpoBestWorst(DpoLoss):
    """-log sigmoid(r_best - r_worst), with r = beta log(pi / pi_ref): DPO (2305.18290, eq. 7) on one pair per prompt.

    The responses in between are not used. Several tied best or worst: the mean over all (tied best, tied worst)
    pairs. N=2 is DPO. All tied: loss 0, not valid.
    """

    on_pairs: ClassVar[bool] = True

    name: Literal["dpo_best_worst"] = "dpo_best_worst"

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and [B, N, N] pairs."""
        best, worst = extreme_responses(pairs)
        # Restricted to `pairs`: with a tie margin, one of several best may be tied with one of several worst.
        return self.over_pairs(self.rewards(batch), pairs & best[:, :, None] & worst[:, None, :])
