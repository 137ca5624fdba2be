"""NCA: noise-contrastive alignment, which raises or lowers each response's likelihood in absolute terms."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.losses._base import WithLogRatios
from harness.losses._tensors import logistic_loss, soft_targets

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class Nca(WithLogRatios):
    """-sum_i [p_i log sigmoid(r_i) + 1/N log sigmoid(-r_i)], with p = softmax(g / temperature), g the scores, N the
    prompt's number of responses and r = beta log(pi / pi_ref): NCA (2402.05369).

    Unlike most losses it does not depend only on differences of r, and so keeps the likelihood of good responses from
    falling along with that of bad ones. The scores' scale matters as in `infonca` (the authors' script has temperature
    1e-4 and beta 0.01); there is no tie margin and no label smoothing for the same reason. N=2 is the pairwise NCA loss
    (TRL's nca_pair) for a low temperature, not DPO. Ties have equal targets. All tied: loss 0, not valid.
    """

    name: Literal["nca"] = "nca"
    temperature: float = Field(1.0, ge=1e-6)
    """Of the softmax over scores."""

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and scores."""
        rewards = self.rewards(batch)
        targets = soft_targets(batch.scores, batch.mask, self.temperature).to(rewards.dtype)
        noise = batch.mask.to(rewards.dtype) / batch.mask.sum(dim=1, keepdim=True).clamp(min=1)
        return (targets * logistic_loss(rewards) + noise * logistic_loss(-rewards)).sum(dim=1)
