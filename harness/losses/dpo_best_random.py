"""DPO on the best response of each prompt against a random other, redrawn every epoch."""

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.losses._base import DpoLoss
from harness.losses._tensors import extreme_responses, wide

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class DpoBestRandom(DpoLoss):
    """-log sigmoid(r_1 - r_j), j uniform over the responses below the best, with r = beta log(pi / pi_ref): DPO
    (2305.18290, eq. 7) on one pair per prompt.

    j is the response below the best with the largest number in `draws` [B, N], so the loss is a pure function of its
    batch. Its expectation over draws is `dpo_best_rest`; without draws it is that expectation. Several tied best: the
    mean over those that beat j. With a tie margin, j's probability is proportional to the number of best responses that
    beat it, which preserves the expectation. N=2 is DPO. All tied: loss 0, not valid.
    """

    on_pairs: ClassVar[bool] = True

    name: Literal["dpo_best_random"] = "dpo_best_random"

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and draws, and [B, N, N] pairs."""
        best, _ = extreme_responses(pairs)
        candidates = pairs & best[:, :, None]
        if batch.draws is not None:
            candidates = candidates & self._drawn(batch.draws, candidates.sum(dim=1))[:, None, :]
        return self.over_pairs(self.rewards(batch), candidates)

    def _drawn(self, draws: "Tensor", counts: "Tensor") -> "Tensor":
        """[B, N] bool: the one with the largest u^(1/count), which is j with a probability proportional to its count
        (weighted sampling after Efraimidis and Spirakis, 2006)."""
        import torch

        numbers = wide(draws).masked_fill(counts == 0, 0.5)
        keys = numbers.clamp(min=torch.finfo(numbers.dtype).tiny).log() / counts.clamp(min=1)
        keys = keys.masked_fill(counts == 0, -torch.inf)
        return (keys == keys.amax(dim=1, keepdim=True)) & (counts > 0)
