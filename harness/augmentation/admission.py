"""The admission test of a reward model, before its scores rank anything.

It measures accuracy on held-out pairs, ties, missing scores, the correlation of score and length, and whether a
response gets the same score alone and in a batch: a model that reads padding as text ranks a response by its
neighbours.
"""

import math
from collections.abc import Sequence
from typing import Any

from harness.errors import ModelError
from harness.protocols import Ready
from harness.stats.agreement import kendall_tau
from harness.stats.intervals import accuracy_metric, mean_metric, proportion_metric
from harness.types import Message, Messages, Metric

TOLERANCE = 1e-3
"""The largest difference that the batch may make to a response's score."""
SAMPLE = 16
_USER = (Message(role="user", content="Hi"),)
PROBES: tuple[tuple[Messages, str], ...] = ((_USER, "Hi"), (_USER, "and so on " * 12))
"""They differ in length, so that there is padding even if all other rows have, or are truncated to, the same length."""
BATCH_FIELDS = ("batch_size", "score_batch_size")
"""The fields in which a reward model that computes in batches has its batch size."""


def pair_figures(
    pairs: Sequence[tuple[str, str]], scores: Sequence[tuple[float | None, float | None]]
) -> dict[str, Any]:
    """Figures of held-out pairs (chosen, rejected) and their scores: `accuracy` (ties count half), `ties` (number of
    pairs), `not_scored` (number of responses), `length_correlation` (Spearman, of score and characters over all
    responses), and `longer_preferred` (the share of pairs whose longer response scores higher; 0.5 is indifference)."""
    outcomes = [None if a is None or b is None else (a > b) + 0.5 * (a == b) for a, b in scores]
    longer = [
        None if o is None or len(a) == len(b) else (o if len(a) > len(b) else 1 - o)
        for (a, b), o in zip(pairs, outcomes, strict=True)
    ]
    texts = [text for pair in pairs for text in pair]
    scored = [(s, len(t)) for s, t in zip((x for pair in scores for x in pair), texts, strict=True) if s is not None]
    return {
        "accuracy": accuracy_metric(outcomes).model_dump(mode="json"),
        "ties": sum(o == 0.5 for o in outcomes),
        "not_scored": sum(s is None for pair in scores for s in pair),
        "length_correlation": _spearman(scored).model_dump(mode="json"),
        "longer_preferred": proportion_metric([x for x in longer if x is not None]).model_dump(mode="json"),
    }


def _spearman(points: Sequence[tuple[float, float]]) -> Metric:
    """Spearman's rank correlation, with an interval by Fisher's transformation (Bonett and Wright 2000)."""
    from scipy.stats import spearmanr

    n = len(points)
    if n < 4 or len({a for a, _ in points}) < 2 or len({b for _, b in points}) < 2:
        return Metric(value=None, n=n)
    rho = float(spearmanr([a for a, _ in points], [b for _, b in points]).statistic)
    if abs(rho) >= 1:
        return Metric(value=rho, n=n)
    half = 1.96 * math.sqrt((1 + rho * rho / 2) / (n - 3))
    return Metric(value=rho, ci95=(math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)), n=n)


def batch_invariance(model: Any, ready: Ready, rows: Sequence[tuple[Messages, str]]) -> dict[str, Any]:
    """`largest_difference` between scores computed one by one and in a batch of 16, for the shortest and longest of the
    responses (`responses`: their number, including the two `PROBES`). Half precision may differ by more than TOLERANCE:
    then both are recomputed in float32, which separates rounding (`rounding`: how much) from a fault. `applies` is
    False for a model that does not compute in batches. Raises ModelError for a model whose scores depend on the
    batch."""
    field = next((f for f in BATCH_FIELDS if f in type(model).model_fields), None)
    if field is None:
        return {"applies": False}
    order = sorted(rows, key=lambda row: len(row[1]) + sum(len(m.content) for m in row[0]))
    half = (SAMPLE - len(PROBES)) // 2
    sample = [*PROBES, *order[:half], *order[max(half, len(order) - half) :]]
    report = {"applies": True, "responses": len(sample)}
    difference, scores = _difference(model, field, ready, sample)
    if difference <= TOLERANCE:
        return report | {"largest_difference": difference}
    if dict(model).get("dtype") in ("bfloat16", "float16"):
        exact, scores = _difference(model.model_copy(update={"dtype": "float32"}), field, ready, sample)
        if exact <= TOLERANCE:
            return report | {"largest_difference": exact, "rounding": difference}
    alone, together = ("no finite score" if score is None else f"{score:.4f}" for score in scores)
    raise ModelError(
        f"reward model '{model.name}' gives one response {alone} alone and {together} beside longer ones in a "
        "batch: it reads padding as text, so it would rank by length and by neighbours; its attention mask, padding "
        "side or padding token is wrong: fix the model's tokenizer, or use another reward model"
    )


def _difference(
    model: Any, field: str, ready: Ready, sample: Sequence[tuple[Messages, str]]
) -> tuple[float, tuple[float | None, float | None]]:
    """(largest difference, the two scores that differ most) between batch sizes 1 and SAMPLE; infinite if a response
    has a score in only one of them."""
    quiet = Ready(ready.folder, lambda _: None, ready.ask, ready.parts)
    alone, together = (model.model_copy(update={field: n}).score(sample, quiet) for n in (1, SAMPLE))

    def distance(pair: tuple[float | None, float | None]) -> float:
        a, b = pair
        return abs(a - b) if a is not None and b is not None else 0.0 if a is b else math.inf

    worst = max(zip(alone, together, strict=True), key=distance)
    return distance(worst), worst


def growth_with_n(groups: Sequence[Sequence[float | None]]) -> list[dict[str, Any]]:
    """The benefit of more responses: for k = 1 .. N the expected best score and the expected spread (best minus worst)
    of k responses drawn from a prompt's N without replacement, averaged over prompts with all N scored. `best` is the
    gain over one response. Both are also given in units of the standard deviation within prompts (`..._sd`).

    The best of k of n sorted scores s_1 <= ... <= s_n is s_i with probability C(i-1, k-1) / C(n, k).
    """
    most = max((len(g) for g in groups), default=0)
    complete = [sorted(x for x in g if x is not None) for g in groups if len(g) == most and None not in g]
    if most < 2 or not complete:
        return []
    variances = [sum((x - sum(g) / most) ** 2 for x in g) / (most - 1) for g in complete]
    sd = math.sqrt(sum(variances) / len(variances))
    growth = []
    for k in range(1, most + 1):
        best = [_expected_best(g, k) for g in complete]
        worst = [-_expected_best([-x for x in reversed(g)], k) for g in complete]
        gains = mean_metric([b - sum(g) / most for b, g in zip(best, complete, strict=True)])
        spreads = mean_metric([b - w for b, w in zip(best, worst, strict=True)])
        row = {"n": k, "best": gains.value, "best_stderr": gains.stderr, "spread": spreads.value}
        row["prompts"] = len(complete)
        scaled = {f"{name}_sd": row[name] / sd if sd else None for name in ("best", "spread")}  # type: ignore[operator]
        growth.append(row | scaled)
    return growth


def _expected_best(ordered: Sequence[float], k: int) -> float:
    """The expected maximum of k draws without replacement from scores in ascending order."""
    n = len(ordered)
    return sum(x * math.comb(i, k - 1) for i, x in enumerate(ordered)) / math.comb(n, k)


def agreement(first: Sequence[Sequence[float | None]], second: Sequence[Sequence[float | None]]) -> Metric:
    """Kendall's tau-b between two reward models' scores of each prompt's responses, averaged over prompts, with a
    bootstrap interval over prompts. A prompt where one of the models gives no order counts in `n_invalid`."""
    return mean_metric([tau(one, other) for one, other in zip(first, second, strict=True)], limits=(-1.0, 1.0))


def tau(one: Sequence[float | None], other: Sequence[float | None]) -> float | None:
    """Kendall's tau-b between two models' scores of a prompt's responses; None where one of them gives no order."""
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    return kendall_tau([a for a, _ in both], [b for _, b in both])
