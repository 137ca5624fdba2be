"""Plackett-Luce over the whole ranking (DPO's appendix A.3; ListMLE), or over its first positions."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness.losses._base import DpoLoss
from harness.losses._tensors import choice_losses, masked_mean

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class PlackettLuce(DpoLoss):
    """1/(N-1) sum_{k<N} [logsumexp(r_k, ..., r_N) - r_k], with r = beta log(pi / pi_ref): the negative log-likelihood
    of the ranking under Plackett-Luce (DPO, 2305.18290, appendix A.3), divided by its number of choices.

    The likelihood itself has no such divisor; it makes learning rates comparable with those of the other losses (at
    initialisation the loss is log(N!)/(N-1)). Ties: each response is compared with those strictly worse than it, as
    softplus(logsumexp_{j worse than i} r_j - r_i), which is equivalent without ties; the divisor is the number of
    responses that have a worse one, N-1 without ties. N=2 is DPO. All tied: loss 0, not valid.

    `top_k` keeps only the first k choices (responses beaten by fewer than k others): the best k in order, each against
    all below. 1 is `sdpo`. `label_smoothing`: the assumed probability that a choice is wrong.
    """

    name: Literal["plackett_luce"] = "plackett_luce"
    top_k: Annotated[int, Field(ge=1)] | None = None
    """Keep only so many choices, the best responses' first; None: all."""

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and [B, N, N] pairs."""
        choices = pairs.any(dim=2)
        if self.top_k is not None:
            choices = choices & (pairs.sum(dim=1) < self.top_k)
        return masked_mean(choice_losses(self.rewards(batch), pairs, self.label_smoothing), choices, dim=1)
