"""What a training step's log says of its prompts. Log-ratios are log pi - log pi_ref in nats, without beta."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from torch import Tensor

from harness.protocols import RankedLogps
from harness.ranking import implicit_rewards, masked_mean, strict_pairs


def step_metrics(batches: Sequence[RankedLogps]) -> dict[str, Any]:
    """Means over the prompts of a step's micro-batches.

    margin_mean, margin_variance: mean and variance of a prompt's log-ratio differences over its strict pairs.
    pair_accuracy: share of a prompt's strict pairs whose log-ratios are in the scores' order (a tie is half).
    top1_accuracy: of the responses with a prompt's largest log-ratio, the share with its best score.
    log_ratio_by_rank, logp_by_rank, length_by_rank: a list, the best-scored response first.
    tokens: response tokens, end tokens included.
    """
    found = [_of_prompt(*prompt) for batch in batches for prompt in _prompts(batch)]
    means = {name: fmean(prompt[name] for prompt in found) for name in found[0] if not name.endswith("_by_rank")}
    lists = {name: _by_rank([prompt[name] for prompt in found]) for name in found[0] if name.endswith("_by_rank")}
    tokens = sum(int(batch.lengths[batch.mask].sum()) for batch in batches)
    return means | lists | {"tokens": tokens}


def _prompts(batch: RankedLogps) -> list[tuple[Tensor, ...]]:
    """One prompt's (log-ratios, log-probabilities, lengths, scores), the best first, without padding."""
    ratios = implicit_rewards(batch, 1.0)
    prompts = []
    for b, mask in enumerate(batch.mask):
        order = batch.scores[b][mask].argsort(descending=True, stable=True)
        rows = (ratios, batch.logps, batch.lengths, batch.scores)
        prompts.append(tuple(values[b][mask][order] for values in rows))
    return prompts


def _of_prompt(ratios: Tensor, logps: Tensor, lengths: Tensor, scores: Tensor) -> dict[str, Any]:
    pairs = strict_pairs(scores[None], (lengths > 0)[None])[0]
    margins = (ratios[:, None] - ratios[None, :])[pairs].double()
    top = ratios == ratios.max()
    return {
        "margin_mean": float(margins.mean()),
        "margin_variance": float(margins.var(unbiased=False)),
        "pair_accuracy": float(((margins > 0).double() + 0.5 * (margins == 0)).mean()),
        "top1_accuracy": float(masked_mean((scores == scores.max()).double(), top, dim=0)),
        "log_ratio_by_rank": ratios.tolist(),
        "logp_by_rank": logps.tolist(),
        "length_by_rank": lengths.tolist(),
    }


def _by_rank(prompts: Sequence[Sequence[float]]) -> list[float]:
    """The mean over prompts of each rank's value, where prompts may have different numbers of ranks."""
    ranks = max(len(values) for values in prompts)
    return [fmean(values[k] for values in prompts if len(values) > k) for k in range(ranks)]
