"""Rows of the public AlpacaEval leaderboard, for a board to show beside its own."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from harness.board_rows import Entry
from harness.public_leaderboard import FILE, JUDGE, check, rows
from harness.types import Metric

METHOD = "public"
COUNTS = {"wins": "n_wins", "losses": "n_wins_base", "draws": "n_draws"}


def public_rows(names: Sequence[str], like: Mapping[str, Any] | None = None) -> list[Entry]:
    """The rows as the leaderboard has them. `like`: `judge` and `benchmarks` of rows that the same judge gave verdicts
    on for the same prompts, whose table they then stand in; else they stand in one of their own. They have no outcomes
    by prompt, so that no paired test is made of them."""
    check(names)
    own = {
        "judge": {"name": METHOD, "recorded_by": f"alpaca_eval: {JUDGE}"},
        "benchmarks": {
            "alpaca_eval": {"name": "alpaca_eval", "leaderboard": FILE.name, "alpaca_eval": version("alpaca_eval")}
        },
    }
    source = f"the public leaderboard in alpaca_eval {version('alpaca_eval')} ({FILE.name})"
    provenance = {**(like or own), "judge_calibration": "the official judge's", "public": source}
    found = rows()
    return [Entry(id=name, method=METHOD, metrics=_metrics(found[name]), provenance=provenance) for name in names]


def _metrics(row: Mapping[str, str]) -> dict[str, Metric]:
    n = int(row["n_total"])

    def metric(key: str, stderr: str | None = None) -> Metric | None:
        if not row.get(key):
            return None
        return Metric(value=float(row[key]), stderr=float(row[stderr]) if stderr and row.get(stderr) else None, n=n)

    found = {
        "win_rate": metric("win_rate", "standard_error"),
        "discrete_win_rate": metric("discrete_win_rate"),
        "lc_win_rate": metric("length_controlled_winrate"),
        "lc_standard_error": metric("lc_standard_error"),
        "avg_length": metric("avg_length"),
        **{name: metric(key) for name, key in COUNTS.items()},
    }
    return {f"alpaca_eval.{name}": value for name, value in found.items() if value is not None}
