"""Figures over training seeds: only rows that differ in nothing but their training seed are put together."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from harness.boards.entry import Entry
from harness.boards.read import read_board
from harness.boards.training_seeds import seed_groups
from harness.report.merge import merge_boards
from harness.report.write import write_board
from tests.sample_boards import drawn, metric, seed_row, with_provenance

AXES = [
    {"name": "n", "fields": ["data.responses.n"], "values": ["2", "4"]},
    {"name": "reward", "fields": ["data.reward"], "values": ["good", "bad"]},
    {"name": "seed", "fields": ["seed"], "values": ["0", "1"]},
]


def recipe(seeds: list[int] | None = None, **changed: Any) -> dict[str, Any]:
    fields = {"n": "2", "reward": "good", "seed": "0", "beta": 0.1, "name": "r", "limit": 40, "rate": 1e-5, **changed}
    return {
        "name": fields["name"],
        "seed": int(fields["seed"]),
        "data": {"responses": {"n": int(fields["n"])}, "reward": {"name": fields["reward"]}},
        "methods": [{"id": "dpo", "loss": {"name": "sdpo", "beta": fields["beta"]}}, {"id": "other"}],
        "training": {"learning_rate": fields["rate"], "seeds": seeds or [0, 1, 2]},
        "evaluation": {"benchmarks": [{"name": "mt_bench", "limit": fields["limit"]}]},
        "runtime": {"ray": fields["name"] == "elsewhere"},
    }


def trained(name: str, training_seed: int, score: float, **about: Any) -> Entry:
    row = seed_row("dpo", training_seed, {"mt_bench.score": metric(score, 0.2)}, **about)
    return row.model_copy(update={"id": f"{name}.seed-{training_seed}"})


def test_cells_of_a_sweep_over_three_axes_stay_apart() -> None:
    rows = []
    for n, reward, data_seed in product(("2", "4"), ("good", "bad"), ("0", "1")):
        settings = {"n": n, "reward": reward, "seed": data_seed}
        sweep = {"row": "dpo", "cells": [settings], "axes": AXES}
        about = {"sweep": sweep, "recipe": recipe(None, **settings), "seed": int(data_seed)}
        for seed in (0, 1, 2):
            score = int(n) + (reward == "good") + seed / 10
            rows.append(trained(f"dpo.{n}.{reward}.{data_seed}", seed, score, **about))
    groups = seed_groups(rows)
    assert len(groups) == 8
    assert all(group.seeds == (0, 1, 2) for group in groups)
    spreads = {tuple(group.settings.values()): group.metrics["mt_bench.score"] for group in groups}
    assert spreads["2", "bad", "0"].mean == pytest.approx(2.1)
    assert spreads["4", "good", "1"].mean == pytest.approx(5.1)
    assert all(spread.sd == pytest.approx(0.1) for spread in spreads.values())
    assert groups[0].label == "dpo (n 2, reward good, seed 0)"


def test_a_row_that_an_axis_does_not_affect_is_in_one_group() -> None:
    cells = [{"n": "2", "reward": "good"}, {"n": "4", "reward": "good"}]
    sweep = {"row": "dpo", "cells": cells, "axes": AXES[:2]}
    rows = [trained("dpo", seed, 5 + seed, sweep=sweep, recipe=recipe()) for seed in (0, 1)]
    (group,) = seed_groups(rows)
    assert (group.seeds, group.label) == ((0, 1), "dpo")


@pytest.mark.parametrize("change", [{"n": "4"}, {"reward": "bad"}, {"seed": "1"}, {"beta": 0.5}, {"rate": 1e-4}])
def test_rows_of_other_recipes_on_a_merged_board_stay_apart(tmp_path: Path, change: dict[str, Any]) -> None:
    boards = []
    for name, changed in (("one", {}), ("two", change)):
        rows = [trained(name, s, 5 + (name == "two") + s / 10, recipe=recipe(**changed)) for s in (0, 1)]
        write_board(tmp_path / name, name, rows)
        boards.append(tmp_path / name)
    entries = read_board(merge_boards(boards, tmp_path / "both")).entries
    first, second = seed_groups(entries)
    assert first.metrics["mt_bench.score"].mean == pytest.approx(5.05)
    assert second.metrics["mt_bench.score"].mean == pytest.approx(6.05)
    assert first.label != second.label
    assert "Student's t over seeds" in drawn(tmp_path / "both", 100)


@pytest.mark.parametrize("change", [{"name": "elsewhere"}, {"seeds": [1]}, {"limit": 80}])
def test_what_does_not_touch_training_keeps_rows_together(change: dict[str, Any]) -> None:
    rows = [trained("one", 0, 5, recipe=recipe()), trained("two", 1, 6, recipe=recipe(**change))]
    (group,) = seed_groups(rows)
    assert group.seeds == (0, 1)


def test_data_that_changed_between_two_runs_is_not_the_same_data() -> None:
    rows = [trained("one", s, 5, recipe=recipe(), keys={"seeds": "aa"}) for s in (0, 1)]
    others = [trained("two", s, 6, recipe=recipe(), keys={"seeds": "bb"}) for s in (0, 1)]
    assert [group.seeds for group in seed_groups([*rows, *others])] == [(0, 1), (0, 1)]


def test_without_a_recipe_the_cell_decides() -> None:
    rows = []
    for n, seed in product(("2", "4"), (0, 1)):
        row = trained(f"dpo.n-{n}", seed, 5, sweep={"row": "dpo", "cells": [{"n": n}], "axes": AXES[:1]})
        rows.append(with_provenance(row, "recipe"))
    assert [group.settings for group in seed_groups(rows)] == [{"n": "2"}, {"n": "4"}]
