"""Plackett-Luce over the whole ranking (DPO's appendix A.3; ListMLE)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.components import Component
from harness.ranking import implicit_rewards, masked_mean, strict_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class PlackettLuce(Component):
    """1/(N-1) sum_{k<N} [logsumexp(r_k, ..., r_N) - r_k], with r = beta log(pi / pi_ref): the negative log-likelihood
    of the ranking under Plackett-Luce (DPO, 2305.18290, appendix A.3), divided by its number of choices.

    The likelihood itself has no such divisor; it is here so that a learning rate means about the same as with the
    other losses (at initialisation the loss is log(N!)/(N-1)). Ties: each response is compared with those strictly
    worse than it, as softplus(logsumexp_{j worse than i} r_j - r_i), which is the same thing without ties; the
    divisor is the number of responses that have a worse one, N-1 without ties. N=2 is DPO. All tied: loss 0, not valid.
    """

    name: Literal["plackett_luce"] = "plackett_luce"
    beta: float = Field(0.1, gt=0, allow_inf_nan=False)

    def __call__(self, batch: "RankedLogps") -> "tuple[Tensor, Tensor]":
        """(losses [B], valid [B]) from [B, N] log-probabilities, scores and mask."""
        import torch
        from torch.nn.functional import softplus

        rewards = implicit_rewards(batch, self.beta)
        pairs = strict_pairs(batch.scores, batch.mask)
        chooses = pairs.any(dim=2)
        # A large finite number in place of -inf, whose logsumexp over nothing would have NaN gradients.
        nothing = torch.finfo(rewards.dtype).min / 2
        worse = rewards[:, None, :].expand(pairs.shape).masked_fill(~pairs, nothing).logsumexp(dim=2)
        losses = softplus(worse.masked_fill(~chooses, 0.0) - rewards)
        return masked_mean(losses, chooses, dim=1), chooses.any(dim=1)
