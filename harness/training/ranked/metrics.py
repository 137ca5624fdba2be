"""What a training step's log says about its prompts. Log-ratios are log pi - log pi_ref in nats, without beta."""

import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.losses._tensors import implicit_rewards, masked_mean, strict_pairs
from harness.protocols import RankedLogps

STATUS = Path("/proc/self/status")


class ForwardResult(NamedTuple):
    """A micro-batch after its forward: the log-probabilities, which of them were computed ([B, N] bool; the loss
    ignores the others), and the numbers of input tokens and of padding that went through the policy."""

    batch: RankedLogps
    computed: Tensor
    input_tokens: int
    padding: int


def step_metrics(forwards: Sequence[ForwardResult]) -> dict[str, Any]:
    """Means over the prompts of a step's micro-batches, over the computed responses.

    Metrics of pairs are None if no prompt of the step has a strict pair of computed responses.

    margin_mean, margin_variance: mean and variance of a prompt's log-ratio differences over its strict pairs.
    pair_accuracy: share of a prompt's strict pairs whose log-ratios are in the order of their scores (a tie is half).
    kendall_tau: tau-a of log-ratios with scores over the strict pairs, 2 pair_accuracy - 1.
    top1_accuracy: of the responses with a prompt's largest log-ratio, the share with its best score.
    kl_proxy: mean log-ratio over responses; it estimates the KL divergence from the reference only on samples of the
    policy.
    log_ratio_by_rank, logp_by_rank, length_by_rank: a list, the best-scored response first; null where no response of
    that rank was computed.
    tokens: response tokens, end tokens included. forward_tokens: all input tokens, prompts included. prompts: their
    number. padding: its share of what went through the policy.
    """
    rows = [_of_prompt(*prompt) for part in forwards for prompt in _prompts(part)]
    means = {name: _mean([row[name] for row in rows]) for name in rows[0] if not name.endswith("_by_rank")}
    lists = {name: _by_rank([row[name] for row in rows]) for name in rows[0] if name.endswith("_by_rank")}
    counts = {
        "tokens": sum(int(part.batch.lengths[part.computed].sum()) for part in forwards),
        "forward_tokens": sum(part.input_tokens for part in forwards),
        "prompts": len(rows),
    }
    padding = sum(part.padding for part in forwards)
    return means | lists | counts | {"padding": padding / (padding + counts["forward_tokens"])}


def _prompts(part: ForwardResult) -> list[tuple[Tensor, ...]]:
    """Each prompt's (log-ratios, log-probabilities, lengths, scores, computed), the best response first, no padding."""
    batch = part.batch
    ratios = implicit_rewards(batch, 1.0)
    prompts = []
    for b, mask in enumerate(batch.mask):
        order = batch.scores[b][mask].argsort(descending=True, stable=True)
        tensors = (ratios, batch.logps, batch.lengths, batch.scores, part.computed)
        prompts.append(tuple(values[b][mask][order] for values in tensors))
    return prompts


def _of_prompt(ratios: Tensor, logps: Tensor, lengths: Tensor, scores: Tensor, computed: Tensor) -> dict[str, Any]:
    pairs = strict_pairs(scores[None], computed[None])[0]
    margins = (ratios[:, None] - ratios[None, :])[pairs].double()
    top = computed & (ratios == ratios[computed].max())
    return {
        **_of_pairs(margins),
        "top1_accuracy": float(masked_mean((scores == scores[computed].max()).double(), top, dim=0)),
        "kl_proxy": float(ratios[computed].mean()),
        "log_ratio_by_rank": _where(ratios, computed),
        "logp_by_rank": _where(logps, computed),
        "length_by_rank": _where(lengths, computed),
    }


def _of_pairs(margins: Tensor) -> dict[str, float | None]:
    if not len(margins):
        return dict.fromkeys(("margin_mean", "margin_variance", "pair_accuracy", "kendall_tau"))
    accuracy = float(((margins > 0).double() + 0.5 * (margins == 0)).mean())
    return {
        "margin_mean": float(margins.mean()),
        "margin_variance": float(margins.var(unbiased=False)),
        "pair_accuracy": accuracy,
        "kendall_tau": 2 * accuracy - 1,
    }


def _where(values: Tensor, computed: Tensor) -> list[float | None]:
    return [value if real else None for value, real in zip(values.tolist(), computed.tolist(), strict=True)]


def _by_rank(prompts: Sequence[Sequence[float | None]]) -> list[float | None]:
    """The mean of each rank's value over prompts, which may have different numbers of responses."""
    ranks = max(len(values) for values in prompts)
    at_rank = [[v for values in prompts if len(values) > k and (v := values[k]) is not None] for k in range(ranks)]
    return [_mean(values) for values in at_rank]


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return fmean(numbers) if numbers else None


def flatten(metrics: dict[str, Any]) -> dict[str, float]:
    """The metrics as single numbers, for curves: `logp_by_rank/1` is the best response's."""
    single = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    lists = {name: value for name, value in metrics.items() if isinstance(value, list)}
    ranks = {f"{name}/{k}": v for name, values in lists.items() for k, v in enumerate(values, 1) if v is not None}
    return single | ranks


def peak_memory_gigabytes() -> float:
    """The peak memory of this process so far: the accelerator's, or resident memory on a CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    if STATUS.exists():
        # Linux: the kernel's count for `getrusage` begins with that of whoever started this process.
        peaks = [line.split()[1] for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
        if peaks:
            return int(peaks[0]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
