"""What preference losses share: the options that a recipe may set, and how prompts without a preference are handled.

A loss derives from `PreferenceLoss` and from the classes of the options that make sense for it (most use all of them:
`DpoLoss`), and computes each prompt's loss in `losses`. Any other option is an unknown field.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING

from pydantic import Field

from harness.losses._tensors import (
    extreme_responses,
    held_logps,
    implicit_rewards,
    logistic_loss,
    masked_mean,
    pairwise_loss,
    strict_pairs,
    token_counts,
)
from harness.protocols import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class PreferenceLoss(Loss):
    """Base class of the losses. A prompt without a strict preference has loss 0, no gradient, and is not valid.

    `nll_alpha` adds this multiple of the best response's negative log-likelihood per token (natural log); if several
    are tied for best, of their mean. It counters the fall of the chosen responses' likelihood (as RPO, 2404.19733,
    does).
    """

    nll_alpha: float = Field(0.0, ge=0)
    """How much of the best response's negative log-likelihood per token is added (natural log)."""

    def __call__(self, batch: "RankedLogps") -> "tuple[Tensor, Tensor]":
        """(losses [B], valid [B]) from [B, N] log-probabilities, scores and mask."""
        pairs = self.pairs(batch)
        losses, valid = self.losses(batch, pairs), pairs.flatten(1).any(dim=1)
        if self.nll_alpha:
            best, _ = extreme_responses(pairs)
            losses = losses - self.nll_alpha * masked_mean(mean_logps(batch), best, dim=1)
        return losses.masked_fill(~valid, 0.0), valid

    def pairs(self, batch: "RankedLogps") -> "Tensor":
        """[B, N, N] bool: True at (i, j) if response i is strictly better than j."""
        return strict_pairs(batch.scores, batch.mask)

    @abstractmethod
    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B]: each prompt's loss, given its pairs. For a prompt without pairs the value must be finite; it is not
        used."""


class WithTieMargin(PreferenceLoss):
    """`tie_margin`: score differences of at most this much count as ties (`ranking.strict_pairs`)."""

    tie_margin: float = Field(0.0, ge=0)

    def pairs(self, batch: "RankedLogps") -> "Tensor":
        """[B, N, N] bool: True at (i, j) if i's score is above j's by more than the margin."""
        return strict_pairs(batch.scores, batch.mask, self.tie_margin)


class WithLogRatios(PreferenceLoss):
    """`beta` and `length_norm`: they turn a log-ratio against the reference into a reward. beta is 0.1 by default,
    whatever a loss's authors used, so that losses are compared at the same beta. `length_norm` divides the log-ratio by
    the response's length in tokens; a beta with a similar effect is then about ten times larger or more."""

    beta: float = Field(0.1, gt=0)
    """The factor that turns a log-ratio against the reference into a reward."""
    length_norm: bool = False
    """Divide the log-ratio by the response's length in tokens; beta is then to be about ten times larger or more."""

    def rewards(self, batch: "RankedLogps") -> "Tensor":
        """r [B, N]: beta log(pi / pi_ref), or the same per token."""
        return implicit_rewards(batch, self.beta, length_norm=self.length_norm)


class WithLabelSmoothing(PreferenceLoss):
    """`label_smoothing`: the assumed probability that a preference is reversed (conservative DPO). For losses of the
    form -log sigmoid(margin): the loss becomes its weighted mean with -log sigmoid(-margin)."""

    label_smoothing: float = Field(0.0, ge=0, lt=0.5)

    def logistic(self, margins: "Tensor") -> "Tensor":
        """-log sigmoid(margins), smoothed, elementwise."""
        return logistic_loss(margins, self.label_smoothing)

    def over_pairs(self, rewards: "Tensor", weights: "Tensor", margin: float = 0.0) -> "Tensor":
        """[B]: the weighted mean of `logistic`(r_i - r_j - margin) over pairs, weights [B, N, N]."""
        return pairwise_loss(rewards, weights, self.label_smoothing, margin)[0]


class DpoLoss(WithTieMargin, WithLogRatios, WithLabelSmoothing):
    """A loss on the differences of r = beta log(pi / pi_ref), with all options."""


def mean_logps(batch: "RankedLogps") -> "Tensor":
    """[B, N]: the policy's log-probability of each response per token, the end token included."""
    return held_logps(batch.logps, batch.mask) / token_counts(batch)
