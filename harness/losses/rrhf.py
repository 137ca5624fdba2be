"""RRHF: a hinge loss on wrongly ordered responses, plus the likelihood of the best. No reference."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.losses._base import WithTieMargin
from harness.losses._tensors import differences, held_logps, token_counts

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class Rrhf(WithTieMargin):
    """sum over i beats j of max(0, p_j - p_i), plus `nll_alpha` times the best's -log pi per token, with
    p = log pi / |y|^`length_penalty`: RRHF (2304.05302).

    The sum over pairs is the paper's, and sets their weight against the likelihood. The likelihood is averaged over the
    response's tokens (the authors' code also averages over padding). The hinge has no margin, so a prompt whose
    responses are in order has only the likelihood's gradient. There is no beta, no reference and no label smoothing.
    N=2 is RRHF, not DPO. Ties: only strict pairs count; of several tied best, the mean likelihood. All tied: loss 0,
    not valid.
    """

    name: Literal["rrhf"] = "rrhf"
    length_penalty: float = Field(1.0, ge=0)
    """The exponent of the length by which a response's log-probability is divided; 1: the mean per token, 0: the
    sum."""
    nll_alpha: float = Field(1.0, ge=0)
    """The weight of the best response's negative log-likelihood per token."""

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and lengths, and [B, N, N] pairs; the likelihood is added by the base."""
        logps = held_logps(batch.logps, batch.mask)
        lengths = token_counts(batch).to(logps.dtype)
        hinges = (-differences(logps / lengths**self.length_penalty)).relu()
        return hinges.masked_fill(~pairs, 0.0).sum(dim=(1, 2))
