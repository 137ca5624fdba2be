"""LiPO-lambda: pairs weighted by how much swapping them would change the ranking's DCG."""

from typing import TYPE_CHECKING, Literal

from harness.losses._base import DpoLoss
from harness.losses._tensors import differences, masked_mean, wide

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class LipoLambda(DpoLoss):
    """Mean over i beats j of D_ij * -log sigmoid(r_i - r_j), with r = beta log(pi / pi_ref) and the lambda weights
    D_ij = |G_i - G_j| |1/log2(1 + t_i) - 1/log2(1 + t_j)|: LiPO-lambda (2402.01878).

    G = 2^g - 1 is a response's gain, with its score g mapped to [0, 1] over its prompt's responses (the worst 0, the
    best 1): raw scores of a reward model may be negative or make 2^g explode. t is its rank under the *current* r, 1
    for the largest. The weights get no gradient. Responses with the same r (all of them, at initialisation) are ranked
    by their scores, and if these are equal too they share the mean rank: the order in a batch has no effect.

    The paper sums over pairs; the mean keeps learning rates comparable across N. N=2 is DPO times 1 - 1/log2(3) =
    0.369. Ties: only strict pairs count. All tied: loss 0, not valid.
    """

    name: Literal["lipo_lambda"] = "lipo_lambda"

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and scores, and [B, N, N] pairs."""
        rewards = self.rewards(batch)
        weights = _swap_gains(rewards.detach(), wide(batch.scores), batch.mask)
        return masked_mean(weights * self.logistic(differences(rewards)), pairs, dim=(1, 2))


def _swap_gains(rewards: "Tensor", scores: "Tensor", mask: "Tensor") -> "Tensor":
    """D [B, N, N]; values for pairs with padding are meaningless, but finite."""
    import torch

    low = scores.masked_fill(~mask, torch.inf).amin(dim=1, keepdim=True)
    above = (scores - low).masked_fill(~mask, 0.0)
    span = above.amax(dim=1, keepdim=True)
    gains = torch.exp2((above / span.masked_fill(span == 0, 1.0)).to(rewards.dtype)) - 1

    same = differences(rewards) == 0
    apart = differences(above)
    # [b, i, j]: j ranks before i, or shares its rank.
    before = ((differences(rewards) < 0) | (same & (apart < 0))) & mask[:, None, :]
    beside = same & (apart == 0) & mask[:, None, :]
    ranks = before.sum(dim=2) + (beside.sum(dim=2) + 1) / 2
    discounts = 1 / torch.log2(1 + ranks.to(rewards.dtype))
    return differences(gains).abs() * differences(discounts).abs()
