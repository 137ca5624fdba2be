"""Comparisons that `board.json` holds are taken as they are only if all of them are there and right."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.boards.read import read_board
from harness.report.write import write_board
from harness.stats.paired import holm
from tests.gate.rows import board, row

WIN, LC = "alpaca_eval.win_rate", "alpaca_eval.lc_win_rate"
Pairs = list[dict[str, Any]]


def edit(folder: Path, metric: str, change: Callable[[Pairs], object]) -> None:
    """Change the comparisons by a metric in a board's file."""
    path = folder / "board.json"
    file = json.loads(path.read_text())
    change(file["comparisons"][metric])
    path.write_text(json.dumps(file))


def with_p(pairs: Pairs, p: float) -> None:
    """One p value for all, and adjusted as it should be."""
    for pair, adjusted in zip(pairs, holm([p] * len(pairs)), strict=True):
        pair.update(p=p, adjusted_p=adjusted)


CHANGES: dict[str, Callable[[Pairs], object]] = {
    "p of 1": lambda pairs: with_p(pairs, 1.0),
    "p of 0": lambda pairs: with_p(pairs, 0.0),
    "an adjusted p": lambda pairs: pairs[0].update(adjusted_p=0.5 * pairs[0]["adjusted_p"]),
    "an interval": lambda pairs: pairs[0].update(ci95=[x + 50 for x in pairs[0]["ci95"]]),
    "prompts left out": lambda pairs: pairs[0].update(left_out=pairs[0]["left_out"] + 1),
    "a pair is missing": lambda pairs: pairs.pop(),
    "a pair is there twice": lambda pairs: pairs.append(pairs[0]),
    "a pair of another row": lambda pairs: pairs[0].update(first="nobody"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_alone_is_computed_anew(name: str, tmp_path: Path) -> None:
    folder = board(tmp_path / "one", row("a", 0, 60), row("b", 3, 60), row("c", -2, 60))
    right = read_board(folder)
    assert right.listed == right.comparisons
    edit(folder, WIN, CHANGES[name])
    changed = read_board(folder)
    assert changed.listed != right.listed
    assert changed.comparisons == right.comparisons


def resampled(name: str, middle: float) -> Any:
    """A row with a length-controlled win rate and its resamples."""
    draw = random.Random(name)
    resamples = [round(draw.gauss(middle, 2), 4) for _ in range(50)]
    figure = {"value": middle, "n": 60, "n_invalid": 0}
    made = row(name, 0, 60)
    metrics = made.metrics | {LC: made.metrics[WIN].model_validate(figure)}
    return made.model_copy(update={"resamples": {LC: resamples}, "metrics": metrics})


@pytest.mark.parametrize("field", ["difference", "stderr", "unpaired_stderr", "detectable", "p", "ci95"])
def test_what_its_resamples_contradict_is_computed_anew(field: str, tmp_path: Path) -> None:
    write_board(tmp_path, "one", [resampled("a", 50.0), resampled("b", 53.0)])
    right = read_board(tmp_path)
    assert LC in right.comparisons

    def change(pairs: Pairs) -> None:
        (pair,) = pairs
        value = pair[field]
        pair[field] = [x + 1 for x in value] if field == "ci95" else 0.5 * value
        pair["adjusted_p"] = pair["p"]

    edit(tmp_path, LC, change)
    assert read_board(tmp_path).comparisons == right.comparisons
