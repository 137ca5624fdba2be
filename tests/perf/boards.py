"""A board of 200 rows and 805 prompts with all its pairwise tests, and a bootstrap of the length-controlled win rate:
`python -m tests.perf.boards`.

`seconds`: from entries in memory to all files of the board on disk (19,900 pairs: errors, bootstrap intervals, 10,000
sign flips, Holm; the length-controlled rates of all pairs too, from the rows' resamples). `lc_bootstrap_seconds`:
1,000 resamples of 805 prompts, the regression fitted anew in each, for one row; the official regression where the
real data is, else the minimal one. The last line is one JSON object. `--small`: 5 rows of 100 prompts.
"""

import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.boards.entry import Entry
from harness.report.write import write_board
from harness.stats.intervals import mean_metric
from harness.types import Metric
from tests.perf._shared import add_data, is_there, options, report


class Size(NamedTuple):
    """Rows of the board, and prompts of each."""

    rows: int
    prompts: int


FULL, SMALL = Size(200, 805), Size(5, 100)
SYSTEM = "gpt-3.5-turbo-1106"


def entries(size: Size) -> list[Entry]:
    """Verdicts near 0 and 1, of rows that agree on most prompts."""
    rng = np.random.default_rng(0)
    hard = rng.beta(0.25, 0.6, size.prompts)
    rows = []
    for i in range(size.rows):
        won = np.where(rng.random(size.prompts) < 0.6, hard, rng.beta(0.25, 0.6 - i / 1000, size.prompts))
        drawn = [round(float(x), 4) for x in rng.normal(100 * won.mean(), 1.4, 1000)]
        metrics = {
            "alpaca_eval.win_rate": mean_metric(list(won), scale=100),
            "alpaca_eval.lc_win_rate": Metric(value=100 * float(won.mean()), stderr=1.4, n=size.prompts),
        }
        rows.append(
            Entry(
                id=f"row-{i}",
                method="base" if i == 0 else "dpo_best_worst",
                metrics=metrics,
                provenance={"judge": {"name": "x"}, "benchmarks": {"alpaca_eval": {"limit": None}}},
                outcomes={"alpaca_eval": {f"{k:016x}": 1 + float(w) for k, w in enumerate(won)}},
                resamples={"alpaca_eval.lc_win_rate": drawn},
            )
        )
    return rows


def length_controlled(data: Path, prompts: int) -> float:
    """Seconds of the bootstrap for one row of `prompts` prompts."""
    from harness.benchmarks.alpaca_eval import length_control

    if not is_there(data, "generated lengths and the minimal regression"):
        rng = np.random.default_rng(1)
        lengths = [int(x) for x in rng.integers(100, 4000, prompts)]
        wins = [1 + float(rng.beta(0.3 + length / 8000, 0.5)) for length in lengths]  # longer answers win more often
        started = time.perf_counter()
        figure = length_control.lc_win_rate([2000] * prompts, lengths, wins)
    else:
        from harness.components import build

        fields = {"data_dir": str(data), "df_gamed": str(data / "df_gamed_reconstructed.csv"), "limit": prompts}
        benchmark: Any = build("benchmark", {"name": "alpaca_eval"} | fields)
        folder = data / "recorded" / SYSTEM
        answers, _ = benchmark.recorded_answers(folder / "model_outputs.json.gz")
        verdicts, _, _ = benchmark.recorded_verdicts(folder / "annotations.json.gz", answers)
        started = time.perf_counter()
        figure = benchmark.metrics(answers, [], verdicts)["alpaca_eval.lc_win_rate"]
    seconds = time.perf_counter() - started
    assert len(figure.resamples) == 1000
    return seconds


def main() -> None:
    parser = options(__doc__)
    add_data(parser)
    chosen = parser.parse_args()
    size = SMALL if chosen.small else FULL
    rows = entries(size)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        write_board(Path(folder), "large", rows)
        seconds = time.perf_counter() - started
        sizes = {p.name: p.stat().st_size for p in Path(folder).iterdir() if p.is_file()}
    print(f"{size.rows} rows of {size.prompts} prompts: {seconds:.1f} s; {sizes}")
    refits = length_controlled(chosen.data / "alpaca_eval", size.prompts)
    report({"seconds": round(seconds, 1), "lc_bootstrap_seconds": round(refits, 1)})


if __name__ == "__main__":
    main()
