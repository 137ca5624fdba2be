"""The stage that selects what is trained on: what it writes and counts, and which stages read it."""

from pathlib import Path
from typing import Any

import pytest

from harness.errors import DataError
from harness.pipeline.plan import make_plan
from harness.recipe.load import load_study
from harness.recipe.recipe import Recipe
from harness.types import RankedExample
from tests.stages.making.test_imported import file, harness_row, recipe
from tests.stages.scripted import recipe as augmented
from tests.stages.scripted import run


def ranked(folder: Path, **data: Any) -> Recipe:
    folder.mkdir(exist_ok=True)
    scores = [(0.5, 2.0, -1.0 - i) for i in range(8)]
    rows = [harness_row(i, s) for i, s in enumerate(scores)]
    return recipe(file(folder, rows), **data)


def test_every_method_is_trained_on_what_is_selected_and_measured_on_all_that_is_held_out(tmp_path: Path) -> None:
    selecting = ranked(tmp_path, pairs="best_worst")
    plan = make_plan(selecting)
    (trained,) = [row.policy for row in plan.rows if row.policy]
    assert trained.inputs["ranked"] is plan.data["pairs"]
    assert trained.inputs["reference"].inputs["ranked"] is plan.data["pairs"]
    assert all(row.heldout and row.heldout.inputs["ranked"] is plan.data["ranked"] for row in plan.rows)
    artifacts = run(selecting, tmp_path)
    report = {"name": "best_worst", "train_prompts": 6, "responses": 12, "responses_left_out": 6}
    assert artifacts["pairs"].report == report
    whole = {e.id: e for e in artifacts["ranked"].rows("ranked.jsonl", RankedExample)}
    for pair in artifacts["pairs"].rows("ranked.jsonl", RankedExample):
        best, _, worst = whole[pair.id].responses
        assert pair.responses == (best, worst.model_copy(update={"rank": 2}))
    held_out = [artifacts[name].path("heldout.jsonl").read_bytes() for name in ("ranked", "pairs")]
    assert held_out[0] == held_out[1]


def test_dropped_prompts_are_counted_by_reason(tmp_path: Path) -> None:
    artifacts = run(ranked(tmp_path, pairs={"margin": 7.5}), tmp_path)
    kept = artifacts["pairs"].rows("ranked.jsonl", RankedExample)
    report = artifacts["pairs"].report
    assert 0 < len(kept) == report["train_prompts"] < 6
    assert report["dropped_by_margin"] == 6 - len(kept)
    assert report["responses"] + report["responses_left_out"] == 18
    with pytest.raises(DataError, match=r"data\.pairs: no prompt is left \(6 dropped by margin\); select less"):
        run(ranked(tmp_path, pairs={"margin": 99}), tmp_path)
    with pytest.raises(DataError, match=r"6 dropped without all sources\); the responses are by m\d, m\d, m\d"):
        run(ranked(tmp_path, pairs={"name": "delta", "sources": ["x", "y"]}), tmp_path)


def test_lengths_are_counted_in_the_policys_tokens(tmp_path: Path, tiny_model: Path) -> None:
    rows = [harness_row(i) for i in range(4)]
    for row in rows:
        row["responses"][0]["text"] = "ä" * 5  # ten bytes, and so ten tokens of the byte-level tokenizer
        row["responses"][1]["text"] = "b" * 12
        row["responses"][2]["text"] = "c" * 16

    def kept(gap: int) -> set[tuple[str, ...]]:
        made = recipe(file(tmp_path, rows), pairs={"length_gap": gap}, holdout=1)
        made = made.model_copy(update={"policy": made.policy.model_copy(update={"model": str(tiny_model)})})  # type: ignore[union-attr]
        examples = run(made, tmp_path)["pairs"].rows("ranked.jsonl", RankedExample)
        return {tuple(r.text[0] for r in e.responses) for e in examples}

    assert kept(2) == {("b", "ä")}
    assert kept(4) == {("b", "c")}  # as many, farther apart in score
    assert kept(6) == {("b", "ä", "c")}


def test_without_a_selection_no_stage_and_no_key_changes(tmp_path: Path) -> None:
    plain, named = make_plan(ranked(tmp_path / "a")), make_plan(ranked(tmp_path / "a", pairs="all"))
    assert {n: s.key for n, s in plain.data.items()} == {n: s.key for n, s in named.data.items()}
    assert "pairs" not in plain.data
    assert "pairs" not in make_plan(augmented()).data


def test_a_sweep_over_selections_shares_the_ranking(tmp_path: Path) -> None:
    rows = file(tmp_path, [harness_row(i) for i in range(8)])
    fields = {
        "name": "x",
        "policy": {"model": "smollm2-135m-instruct"},
        "data": {"ranked": str(rows), "holdout": 2},
        "methods": [{"id": "dpo", "loss": {"name": "dpo_best_worst"}}],
        "sweep": {"data.pairs": ["all", "best_worst", {"name": "top_k", "k": 2}]},
    }
    study = load_study(fields, check=False)
    assert [cell.id for cell in study.cells] == ["pairs-all", "pairs-best_worst", "pairs-top_k"]
    plans = [make_plan(cell.recipe) for cell in study.cells]
    assert len({plan.data["ranked"].key for plan in plans}) == 1
    assert len({plan.rows[1].policy.key for plan in plans if plan.rows[1].policy}) == 3
