"""Rows with figures of all kinds, computed from their outcomes as runs do."""

import random

from harness.benchmarks.mt_bench.verdicts import verdict_metrics
from harness.boards.entry import Entry
from harness.stats.intervals import accuracy_metric, mean_metric, ratio_metric
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
    won = mean_metric([None if p is None else p - 1 for p in preferences], scale=100)
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
    )
