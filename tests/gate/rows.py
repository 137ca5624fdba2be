"""Rows and boards that gates compare."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.boards.entry import Entry
from harness.report.write import write_board
from harness.stats.intervals import mean_metric
from harness.types import Metric
from tests.sample_boards import BENCHMARKS, LOCAL

N = 400


def row(name: str, shift: float, n: int = N, seed: int = 0, **provenance: Any) -> Entry:
    """A row whose verdicts are those of a common draw moved by `shift` percent points, with a little noise."""
    rng, own = random.Random(seed), random.Random(f"{name}{shift}")
    base = [rng.uniform(1.3, 1.7) for _ in range(n)]
    values = {f"q{i}": b + shift / 100 + own.gauss(0, 0.05) for i, b in enumerate(base)}
    turns = {f"{i}/{t}": float(own.randint(3, 8)) + shift / 10 for i in range(n // 4) for t in (1, 2)}
    outcomes = {"alpaca_eval": dict(values), "mt_bench": dict(turns)}
    return Entry(
        id=name,
        method="dpo_best_worst",
        metrics=measured(outcomes),
        provenance={"judge": LOCAL, "judge_calibration": "uncalibrated", "benchmarks": BENCHMARKS, **provenance},
        outcomes=outcomes,
    )


def measured(outcomes: Mapping[str, Mapping[str, float | None]]) -> dict[str, Metric]:
    """The figures that follow from outcomes."""
    won, turns = outcomes["alpaca_eval"].values(), outcomes["mt_bench"]
    groups = [key.split("/")[0] for key in turns]
    return {
        "alpaca_eval.win_rate": mean_metric(
            [None if v is None else v - 1 for v in won], scale=100, limits=(0.0, 100.0)
        ),
        "mt_bench.score": mean_metric(list(turns.values()), groups=groups, limits=(0.0, 10.0)),
        "mt_bench.turn_1": mean_metric([v for k, v in turns.items() if k.endswith("/1")], limits=(0.0, 10.0)),
    }


def board(folder: Path, *rows: Entry) -> Path:
    write_board(folder, folder.name, rows)
    return folder


def without(entry: Entry, count: int, group: str = "alpaca_eval", *, none: bool = False) -> Entry:
    kept = dict(entry.outcomes[group])
    for key in list(kept)[:count]:
        if none:
            kept[key] = None
        else:
            del kept[key]
    outcomes = {**entry.outcomes, group: kept}
    return entry.model_copy(update={"outcomes": outcomes, "metrics": measured(outcomes)})


OLD = row("old", 0)
