"""A board of 200 rows and 805 prompts with all its pairwise tests, and a bootstrap of the length-controlled win rate:
`python -m tests.perf.boards`.

`seconds`: from entries in memory to all files of the board on disk (19,900 pairs: errors, bootstrap intervals, 10,000
sign flips, Holm; the length-controlled rates of all pairs too, from the rows' resamples). `lc_bootstrap_seconds`:
1,000 resamples of 805 prompts, the regression fitted anew in each, for one row; the official regression where the
recorded systems are at hand, else the minimal one. The last line is one JSON object.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.board_rows import Entry
from harness.leaderboard import write_board
from harness.stats import mean_metric
from harness.types import Metric

ROWS, PROMPTS = 200, 805
SHARED = Path(__file__).parents[3] / "shared" / "data" / "alpaca_eval"


def entries() -> list[Entry]:
    """Verdicts near 0 and 1, of rows that agree on most prompts."""
    rng = np.random.default_rng(0)
    hard = rng.beta(0.25, 0.6, PROMPTS)
    made = []
    for i in range(ROWS):
        won = np.where(rng.random(PROMPTS) < 0.6, hard, rng.beta(0.25, 0.6 - i / 1000, PROMPTS))
        drawn = [round(float(x), 4) for x in rng.normal(100 * won.mean(), 1.4, 1000)]
        metrics = {
            "alpaca_eval.win_rate": mean_metric(list(won), scale=100),
            "alpaca_eval.lc_win_rate": Metric(value=100 * float(won.mean()), stderr=1.4, n=PROMPTS),
        }
        made.append(
            Entry(
                id=f"row-{i}",
                method="base" if i == 0 else "dpo_best_worst",
                metrics=metrics,
                provenance={"judge": {"name": "x"}, "benchmarks": {"alpaca_eval": {"limit": None}}},
                outcomes={"alpaca_eval": {f"{k:016x}": 1 + float(w) for k, w in enumerate(won)}},
                resamples={"alpaca_eval.lc_win_rate": drawn},
            )
        )
    return made


def length_controlled() -> float:
    from harness import length_control

    rng = np.random.default_rng(1)
    if not SHARED.is_dir():
        lengths = [int(x) for x in rng.integers(100, 4000, PROMPTS)]
        wins = [1 + float(x) for x in rng.beta(0.3, 0.5, PROMPTS)]
        started = time.perf_counter()
        figure = length_control.lc_win_rate([2000] * PROMPTS, lengths, wins)
    else:
        from harness.components import build

        fields = {"data_dir": str(SHARED), "df_gamed": str(SHARED / "df_gamed_reconstructed.csv")}
        made: Any = build("benchmark", {"name": "alpaca_eval"} | fields)
        folder = SHARED / "recorded" / "gpt-3.5-turbo-1106"
        answers, _ = made.recorded_answers(folder / "model_outputs.json.gz")
        verdicts, _, _ = made.recorded_verdicts(folder / "annotations.json.gz", answers)
        started = time.perf_counter()
        figure = made.metrics(answers, [], verdicts)["alpaca_eval.lc_win_rate"]
    seconds = time.perf_counter() - started
    assert len(figure.resamples) == 1000
    return seconds


def main() -> None:
    rows = entries()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        write_board(Path(folder), "large", rows)
        seconds = time.perf_counter() - started
        sizes = {p.name: p.stat().st_size for p in Path(folder).iterdir() if p.is_file()}
    print(f"{ROWS} rows of {PROMPTS} prompts: {seconds:.1f} s; {sizes}")
    refits = length_controlled()
    print(json.dumps({"seconds": round(seconds, 1), "lc_bootstrap_seconds": round(refits, 1)}))


if __name__ == "__main__":
    main()
