"""Rows of the public leaderboard on a board."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from pydantic import ValidationError

from harness.benchmark import Benchmark
from harness.boards.entry import Entry, comparable
from harness.boards.read import read_board
from harness.components import build
from harness.errors import RecipeError
from harness.pipeline.entries import published_rows
from harness.report.write import write_board
from tests.benchmarks.alpaca_eval.helpers import official_row
from tests.recipe.test_systems import REPLAY, run


def public_rows(names: list[str], entries: Sequence[Entry] = ()) -> list[Entry]:
    benchmark = cast(Benchmark, build("benchmark", {"name": "alpaca_eval", "public_rows": names}))
    published = benchmark.published()
    assert published is not None
    return published_rows(benchmark, published, entries)


def test_figures_are_the_leaderboards() -> None:
    (entry,) = public_rows(["gpt-3.5-turbo-1106"])
    row, found = official_row("gpt-3.5-turbo-1106"), entry.metrics
    assert found["alpaca_eval.win_rate"].value == float(row["win_rate"])
    assert found["alpaca_eval.win_rate"].stderr == float(row["standard_error"])
    assert found["alpaca_eval.win_rate"].n == 805
    assert found["alpaca_eval.lc_win_rate"].value == float(row["length_controlled_winrate"])
    assert found["alpaca_eval.wins"].value == float(row["n_wins"])
    assert entry.method == "public"
    assert "public leaderboard in alpaca_eval" in entry.provenance.public or ""


@pytest.mark.slow
def test_they_stand_on_the_board_in_their_own_table_where_files_differ(shared_data: Path, tmp_path: Path) -> None:
    data = shared_data / "alpaca_eval"
    folder = data / "recorded" / "gemma-2b-it"
    benchmark = {
        "name": "alpaca_eval",
        "data_dir": str(data),
        "df_gamed": str(data / "df_gamed_reconstructed.csv"),
        "public_rows": ["gpt4_1106_preview"],
    }
    system = {
        "id": "gemma-2b-it",
        "answers": {"alpaca_eval": str(folder / "model_outputs.json.gz")},
        "verdicts": {"alpaca_eval": str(folder / "annotations.json.gz")},
    }
    recipe = {"name": "x", "evaluation": {"judge": REPLAY, "benchmarks": [benchmark]}, "systems": [system]}
    (tmp_path / "x.yaml").write_text(json.dumps(recipe))
    entries = run(tmp_path / "x.yaml", tmp_path / "store")
    assert list(entries) == ["gemma-2b-it", "gpt4_1106_preview"]
    write_board(tmp_path / "board", "x", list(entries.values()))
    text = (tmp_path / "board" / "board.md").read_text()
    assert "Table 2" in text
    assert "From the public leaderboard, unchanged: gpt4" in text
    assert read_board(tmp_path / "board").comparisons == {}


def test_they_stand_with_rows_of_the_same_judge_and_files() -> None:
    judge = {"name": "replay", "recorded_by": "alpaca_eval: weighted_alpaca_eval_gpt4_turbo"}
    known = {"judge": judge, "benchmarks": {"alpaca_eval": {"lc_glm": "length_controlled_v1"}}}
    own = Entry(id="mine", method="system", provenance=known)
    (public,) = public_rows(["gpt4_1106_preview"], [own])
    assert [len(rows) for rows in comparable([own, public])] == [2]
    for changed in ({"lc_glm": "length_controlled_minimal"}, {"lc_glm": "length_controlled_v1", "lc_unofficial": "x"}):
        other = Entry(id="mine", method="system", provenance={"judge": judge, "benchmarks": {"alpaca_eval": changed}})
        (public,) = public_rows(["gpt4_1106_preview"], [other])
        assert [len(rows) for rows in comparable([other, public])] == [1, 1]


def test_unknown_rows_and_other_prompts_are_refused(shared_data: Path) -> None:
    made = build("benchmark", {"name": "alpaca_eval", "public_rows": ["gpt4_1106_previw"]})
    with pytest.raises(RecipeError, match="has no 'gpt4_1106_previw'; did you mean 'gpt4_1106_preview'"):
        made.check()
    for fields in ({"prompts": "builtin"}, {"limit": 5}, {"reference": "base"}):
        with pytest.raises(ValidationError, match="public_rows are about all official prompts"):
            build("benchmark", {"name": "alpaca_eval", "public_rows": ["x"], **fields})
