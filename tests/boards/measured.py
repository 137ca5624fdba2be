"""Rows with figures of all kinds, computed from their outcomes as runs do."""

import math
import random
from statistics import fmean

import numpy as np

from harness.benchmarks.mt_bench.verdicts import verdict_metrics
from harness.boards.catalog import Figures
from harness.boards.entry import Entry
from harness.stats.intervals import (
    RESAMPLES,
    accuracy_metric,
    bootstrap_indices,
    mean_metric,
    percentile_interval,
    ratio_metric,
)
from harness.stats.paired import prompt_of
from harness.stats.proportions import wilson
from harness.types import Metric, Verdict

CATEGORIES = ("writing", "math", "coding", "an-own-one")


def measured(rng: random.Random, n: int, missing: float, pairwise: bool = False) -> Entry:
    """A row with figures of all kinds, computed from its outcomes as runs do."""

    def gone(value: float) -> float | None:
        return None if rng.random() < missing else value

    preferences = [gone(rng.choice([1.0, 1.5, 2.0, rng.uniform(1, 2)])) for _ in range(n)]
    verdicts = []
    for i in range(n):
        for sample, turn in ((s, t) for s in range(rng.choice([1, 2])) for t in (1, 2)):
            value = gone(rng.choice([0.0, 0.5, 1.0]) if pairwise else float(rng.randint(1, 10)))
            key = f"{i}#{sample}" if sample else str(i)
            verdicts.append(
                Verdict(question_id=key, turn=turn, category=CATEGORIES[i % (3 if n == 40 else 4)], value=value)
            )
    margins = [gone(rng.choice([0.0, rng.gauss(0, 3)])) for _ in range(n)]
    trained = [None if m is None else 1.25 * m + 0.5 for m in margins]
    pairs = [(m, t) for m, t in zip(margins, trained, strict=True) if m is not None and t is not None]
    kept = ratio_metric([m for m, _ in pairs], [t for _, t in pairs])
    scored = [p for p in preferences if p is not None]
    won = mean_metric([None if p is None else p - 1 for p in preferences], scale=100, limits=(0.0, 100.0))
    metrics = {
        "alpaca_eval.win_rate": won,
        **{f"mt_bench.{k}": m for k, m in verdict_metrics(verdicts, pairwise=pairwise).items()},
        "heldout.margin": mean_metric(margins),
        "heldout.pair_accuracy": accuracy_metric([None if m is None else (m > 0) + 0.5 * (m == 0) for m in margins]),
    }
    metrics["heldout.trained_margin"] = mean_metric(trained)
    metrics["heldout.margin_kept"] = kept.model_copy(update={"n": len(pairs), "n_invalid": n - len(pairs)})
    for name, of in {"wins": lambda p: p > 1.5, "draws": lambda p: p == 1.5, "losses": lambda p: p < 1.5}.items():
        value = float(sum(map(of, scored))) if scored else None
        metrics[f"alpaca_eval.{name}"] = Metric(value=value, n=won.n, n_invalid=won.n_invalid)
    return Entry(
        id="dpo",
        method="sdpo",
        metrics=metrics,
        provenance={"benchmarks": {"mt_bench": {"mode": "pairwise"} if pairwise else {}, "alpaca_eval": {}}},
        outcomes={
            "alpaca_eval": {f"q{i}": p for i, p in enumerate(preferences)},
            "mt_bench": {v.key: v.value for v in verdicts},
            "heldout": {f"p{i}": m for i, m in enumerate(margins)},
        },
        strata={"mt_bench": {v.question_id.split("#")[0]: str(v.category) for v in verdicts}},
    )


def as_older_boards_have_it(entry: Entry) -> Entry:
    """The row as it was written before few prompts had intervals of their own: bootstraps and Wilson's intervals
    whatever the number of prompts, turns counted in n, and no strata."""
    metrics = {}
    for name, metric in entry.metrics.items():
        figure = Figures([entry])[name]
        pairing = figure.pairing
        outcomes = entry.outcomes[figure.benchmark]
        if figure.part_of is not None:
            pairing = Figures([entry])[figure.part_of].pairing
            outcomes = {k: v for k, v in outcomes.items() if entry.strata["mt_bench"][prompt_of(k)] == figure.name}
        scored = {k: v for k, v in pairing.values(outcomes).items() if v is not None} if pairing else {}
        metrics[name] = metric
        if scored and metric.ci95 is not None and figure.metric.split(".")[0] != "heldout":
            by_prompt: dict[str, list[float]] = {}
            for key, value in scored.items():
                by_prompt.setdefault(prompt_of(key), []).append(value)
            metrics[name] = _bootstrapped(list(by_prompt.values()), metric.n_invalid)
        elif scored:
            n = len(scored)
            ends = wilson(fmean(scored.values()) / 100, n) if name == "heldout.pair_accuracy" else metric.ci95
            metrics[name] = metric.model_copy(update={"n": n, "ci95": ends if metric.ci95 else None})
    return entry.model_copy(update={"metrics": metrics, "strata": {}})


def _bootstrapped(prompts: list[list[float]], invalid: int) -> Metric:
    """The mean over all values, with whole prompts resampled."""
    sums, counts = np.array([sum(p) for p in prompts]), np.array([len(p) for p in prompts])
    n, mean = len(prompts), float(sums.sum() / counts.sum())
    stderr = math.sqrt(n / (n - 1) * float(((sums - counts * mean) ** 2).sum())) / counts.sum()
    drawn = bootstrap_indices(n, RESAMPLES, 0)
    ends = percentile_interval(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return Metric(value=mean, stderr=float(stderr), ci95=ends, n=int(counts.sum()), n_invalid=invalid)
