"""Softmax-DPO: choosing the best response from all of them."""

from typing import TYPE_CHECKING, Literal

from harness.losses._base import DpoLoss
from harness.losses._tensors import choice_losses, extreme_responses, masked_mean

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class Sdpo(DpoLoss):
    """-log sigmoid(-log sum_{l>1} exp(r_l - r_1)) = -log softmax(r)_1, with r = beta log(pi / pi_ref): S-DPO
    (2406.09215), the first choice of Plackett-Luce. Its authors' script has beta 1.

    Several tied best: the mean over them of each one's loss against those that it beats, leaving out the other best
    ones. `label_smoothing`: the assumed probability that the choice is wrong. N=2 is DPO. All tied: loss 0, not valid.
    """

    name: Literal["sdpo"] = "sdpo"

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and [B, N, N] pairs."""
        best, _ = extreme_responses(pairs)
        return masked_mean(choice_losses(self.rewards(batch), pairs, self.label_smoothing), best, dim=1)
