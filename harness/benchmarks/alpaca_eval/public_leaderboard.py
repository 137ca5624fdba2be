"""The public AlpacaEval leaderboard that ships in the `alpaca_eval` package."""

import csv
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.benchmark import Published
from harness.benchmarks.alpaca_eval.length_control import OFFICIAL_GLM
from harness.benchmarks.alpaca_eval.package import package_folder
from harness.errors import RecipeError, nearest, quoted
from harness.types import Metric

LEADERBOARD_FILE = Path("leaderboards/data_AlpacaEval_2/weighted_alpaca_eval_gpt4_turbo_leaderboard.csv")
JUDGE = "weighted_alpaca_eval_gpt4_turbo"
COUNT_COLUMNS = {"wins": "n_wins", "losses": "n_wins_base", "draws": "n_draws"}


def check_names(names: Sequence[str]) -> None:
    """Raises RecipeError for a name that the leaderboard does not have."""
    rows = leaderboard_rows()
    for name in names:
        if name not in rows:
            raise RecipeError(f"public_rows: the public leaderboard has no {quoted(name)}; {_suggestion(name, rows)}")


def _suggestion(name: str, rows: Mapping[str, Any]) -> str:
    """The nearest name only: the leaderboard has two hundred."""
    return nearest(name, rows).split("available:")[0].strip() or f"its names are in alpaca_eval/{LEADERBOARD_FILE}"


def leaderboard_rows() -> dict[str, dict[str, str]]:
    """The leaderboard's rows by name."""
    with (package_folder() / LEADERBOARD_FILE).open(encoding="utf-8", newline="") as file:
        return {row[""]: row for row in csv.DictReader(file)}


def published(names: Sequence[str]) -> Published:
    """The named rows of the leaderboard. They have no outcomes by prompt, and so no paired tests."""
    check_names(names)
    rows = leaderboard_rows()
    release = version("alpaca_eval")
    identities = {
        "judge": {"name": "public", "recorded_by": f"alpaca_eval: {JUDGE}"},
        "benchmarks": {
            "alpaca_eval": {"name": "alpaca_eval", "leaderboard": LEADERBOARD_FILE.name, "alpaca_eval": release}
        },
    }
    source = f"the public leaderboard in alpaca_eval {release} ({LEADERBOARD_FILE.name})"
    provenance = {**identities, "judge_calibration": "the official judge's", "public": source}
    return Published({name: _metrics(rows[name]) for name in names}, provenance, f"alpaca_eval: {JUDGE}", _is_official)


def _is_official(identity: Mapping[str, Any]) -> bool:
    return identity.get("lc_glm") == OFFICIAL_GLM and "lc_unofficial" not in identity


def _metrics(row: Mapping[str, str]) -> dict[str, Metric]:
    n = int(row["n_total"])

    def metric(key: str, stderr: str | None = None) -> Metric | None:
        if not row.get(key):
            return None
        return Metric(value=float(row[key]), stderr=float(row[stderr]) if stderr and row.get(stderr) else None, n=n)

    metrics = {
        "win_rate": metric("win_rate", "standard_error"),
        "discrete_win_rate": metric("discrete_win_rate"),
        "lc_win_rate": metric("length_controlled_winrate"),
        "lc_standard_error": metric("lc_standard_error"),
        "avg_length": metric("avg_length"),
        **{name: metric(key) for name, key in COUNT_COLUMNS.items()},
    }
    return {f"alpaca_eval.{name}": value for name, value in metrics.items() if value is not None}
