"""Multi-DPO: one sigmoid over a normalised weighted sum of all N implicit rewards. A reconstruction."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from harness.errors import DataError
from harness.losses._base import DpoLoss
from harness.losses._tensors import beaten_and_beating, differences, wide

if TYPE_CHECKING:
    from torch import Tensor

    from harness.protocols import RankedLogps


class MdpoLinear(DpoLoss):
    """-log sigmoid(sum_i w_i r_i), with r = beta log(pi / pi_ref) and w_i = (#worse_i - #better_i) / Z.

    This is a RECONSTRUCTION of Multi-DPO (2412.07812) from its abstract: a "normalized weighted sum" over "all pairwise
    comparisons" that is DPO at n=2. The paper's own equation was not available.

    It is the joint likelihood over all pairs with the sum moved inside the sigmoid: sum_{i beats j} (r_i - r_j) gives
    response i of N the weight N+1-2i, so (3, 1, -1, -3) at N=4. `normalise` sets Z, which at a fixed N only rescales
    beta: `pairs` the number of pairs, N(N-1)/2 (weights 1/2, 1/6, -1/6, -1/2), which keeps beta comparable across N;
    `l1` makes the positive weights sum to 1; `max` makes the largest weight 1; `none` leaves Z = 1.

    `weights: score` weighs pair (i, j) by its score gap g_i - g_j, so w_i is proportional to g_i - mean(g); Z changes
    accordingly (`pairs`: the sum of the gaps). Ties: only strict pairs count, so tied responses share a mid-rank. N=2
    is DPO, whatever the scores (with `none` and `score`: at beta times the gap). All tied: loss 0, not valid.

    `weights: [3, 1, -1, -3]` lists them explicitly, the best response's first. They are used as they stand, unless
    `normalise` is given too: then it divides them as it would those of `rank`. Tied responses share the mean of their
    positions' weights. A prompt with a preference whose number of responses differs from the list's length is
    an error, since it has no weights. Weights that do not sum to 0 leave the partition function in the loss.
    """

    is_multi_dpo: ClassVar[bool] = True
    reconstruction: ClassVar[str | None] = (
        "Multi-DPO here is a reconstruction of arXiv 2412.07812 (its exact loss is not public): a linear weighting of "
        "all responses' implicit rewards that equals DPO at two responses. Its figures are not the paper's."
    )

    name: Literal["mdpo_linear"] = "mdpo_linear"
    normalise: Literal["pairs", "l1", "max", "none"] = "pairs"
    """What Z is: the number of `pairs`, `l1` (positive weights sum to 1), `max` (the largest is 1), or `none` (Z =
    1)."""
    weights: Literal["rank", "score"] | Annotated[tuple[float, ...], Field(min_length=2)] = "rank"
    """By `rank`, by `score`, or one weight a rank."""

    @model_validator(mode="before")
    @classmethod
    def _listed_weights_stand(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and isinstance(fields.get("weights"), list | tuple):
            return {"normalise": "none", **fields}
        return fields

    @property
    def responses_a_prompt(self) -> int | None:
        return len(self.weights) if isinstance(self.weights, tuple) else None

    @field_validator("weights")
    @classmethod
    def _not_all_zero(cls, weights: str | tuple[float, ...]) -> str | tuple[float, ...]:
        if not isinstance(weights, str) and not any(weights):
            raise ValueError("weights must not all be 0")
        return weights

    def losses(self, batch: "RankedLogps", pairs: "Tensor") -> "Tensor":
        """[B] from [B, N] log-probabilities and scores, and [B, N, N] pairs."""
        rewards = self.rewards(batch)
        gaps = differences(wide(batch.scores)).to(rewards.dtype)
        pair_weights = gaps.masked_fill(~pairs, 0.0) if self.weights == "score" else pairs.to(rewards.dtype)
        if isinstance(self.weights, tuple):
            weights = _of_places(rewards.new_tensor(self.weights), pairs, batch.mask)
        else:
            weights = pair_weights.sum(dim=2) - pair_weights.sum(dim=1)
        total = self._total(weights, pair_weights)
        argument = (weights * rewards).sum(dim=1) / total.masked_fill(total == 0, 1.0)
        return self.logistic(argument)

    def _total(self, weights: "Tensor", pair_weights: "Tensor") -> "Tensor":
        """Z [B]; 0 for an all-tied prompt unless `normalise` is `none`."""
        match self.normalise:
            case "pairs":
                return pair_weights.sum(dim=(1, 2))
            case "l1":
                return weights.abs().sum(dim=1) / 2
            case "max":
                return weights.abs().amax(dim=1)
            case "none":
                return weights.new_ones(len(weights))


def _of_places(listed: "Tensor", pairs: "Tensor", mask: "Tensor") -> "Tensor":
    """Each response's weight [B, N] from a list by position: the mean over the positions that it may take, below all
    that beat it and above all that it beats. 0 for prompts without a preference, and for padding."""
    from torch.nn.functional import pad

    used = pairs.flatten(1).any(dim=1)
    sizes = mask.sum(dim=1)
    wrong = sizes[used & (sizes != len(listed))]
    if len(wrong):
        raise DataError(
            f"mdpo_linear: weights has {len(listed)} numbers, but a prompt has {wrong[0].item()} responses; "
            "give as many weights as responses, or use weights: rank"
        )
    beaten, beating = beaten_and_beating(pairs)
    sums = pad(listed.cumsum(dim=0), (1, 0))
    first, end = beating, len(listed) - beaten
    weights = (sums[end] - sums[first]) / (end - first).clamp(min=1)
    return weights.masked_fill(~(mask & used[:, None]), 0.0)
