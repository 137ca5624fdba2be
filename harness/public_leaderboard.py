"""The public AlpacaEval leaderboard that ships in the `alpaca_eval` package."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.alpaca_package import package_folder
from harness.errors import RecipeError, nearest, quoted

FILE = Path("leaderboards/data_AlpacaEval_2/weighted_alpaca_eval_gpt4_turbo_leaderboard.csv")
JUDGE = "weighted_alpaca_eval_gpt4_turbo"


def check(names: Sequence[str]) -> None:
    """Raises RecipeError for a name that the leaderboard doesn't have."""
    known = rows()
    for name in names:
        if name not in known:
            raise RecipeError(f"public_rows: the public leaderboard has no {quoted(name)}; {_near(name, known)}")


def _near(name: str, known: Mapping[str, Any]) -> str:
    """Of two hundred names only the near one is told."""
    return nearest(name, known).split("available:")[0].strip() or f"its names are in alpaca_eval/{FILE}"


def rows() -> dict[str, dict[str, str]]:
    """Its rows by name."""
    with (package_folder() / FILE).open(encoding="utf-8", newline="") as file:
        return {row[""]: row for row in csv.DictReader(file)}
