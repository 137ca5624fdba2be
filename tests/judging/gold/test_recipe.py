"""`evaluation.gold` in a recipe: a stronger judge on a random part of the prompts, or people's verdicts from a file."""

import json
from pathlib import Path

import pytest

from harness.benchmarks.alpaca_eval.files import instruction_id
from harness.boards.gold.verdicts import GoldVerdict, read_verdicts, verdicts_text
from harness.boards.read import read_board
from harness.boards.versions.history import kept_boards
from harness.engine.store import Store
from harness.errors import RecipeError
from harness.pipeline.estimates import Estimates
from harness.pipeline.progress import SilentView
from harness.pipeline.run import CompletedRun, run_study
from harness.pipeline.study import make_study_plan
from harness.recipe.load import load_study
from tests.pipeline.test_board import write_systems
from tests.recipe.test_systems import instructions
from tests.sample_boards import contents

RECIPE = """\
name: study
evaluation:
  judge: {name: reward_model, reward: {name: length}, temperature: 200}
  benchmarks: [{name: alpaca_eval, prompts: builtin, reference: file}]
  gold: {judge: {name: reward_model, reward: {name: length, unit: words}, temperature: 20}, prompts: 24}
systems:
  - {id: old, answers: {alpaca_eval: old.json}}
  - {id: new, answers: {alpaca_eval: new.json}}
"""
RECORDED = """\
name: study
evaluation:
  judge: {name: replay}
  benchmarks: [{name: alpaca_eval, prompts: builtin, reference: file}]
  gold: {file: labels.jsonl}
systems:
  - {id: old, answers: {alpaca_eval: old.json}, verdicts: {alpaca_eval: old.v.json}}
  - {id: new, answers: {alpaca_eval: new.json}, verdicts: {alpaca_eval: new.v.json}}
"""
FIGURE = "alpaca_eval.gold_win_rate"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, scale in (("old", 20), ("new", 60)):
        outputs = [
            {"instruction": q, "output": f"{name} {'x' * (scale * (i % 9))}"} for i, q in enumerate(instructions())
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(outputs))
    return tmp_path


def run(folder: Path, text: str = RECIPE) -> CompletedRun:
    (folder / "x.yaml").write_text(text)
    return run_study(load_study(folder / "x.yaml"), folder / "boards", folder / "store", SilentView())


@pytest.mark.slow
def test_a_stronger_judge_on_a_part_of_the_prompts(folder: Path) -> None:
    done = run(folder)
    board = read_board(done.folder)
    for row in board.entries:
        gold = row.metrics[FIGURE]
        assert gold.n == 24
        assert gold.n_invalid == 0
        facts = row.provenance.gold["alpaca_eval"]
        assert (facts["labels"], facts["prompts"]) == (24, len(instructions()))
        assert row.provenance.judging["alpaca_eval (gold)"].replies == 24
        assert row.outcomes.keys() == {"alpaca_eval"}
    verdicts = read_verdicts(done.folder / "gold" / "recipe.jsonl")
    drawn = [{v.prompt for v in verdicts if v.row == name} for name in ("old", "new")]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 24
    assert "gold win rate" in (done.folder / "board.md").read_text()
    before = contents(done.folder)
    assert run(folder).executed.ran == 0
    assert contents(done.folder) == before
    assert kept_boards(done.folder) == []


def test_its_calls_are_planned(folder: Path) -> None:
    (folder / "x.yaml").write_text(RECIPE)
    plan = make_study_plan(load_study(folder / "x.yaml"))
    gold = [stage for stage in plan.stages if stage.name == "gold"]
    assert [stage.id for stage in gold] == ["gold/alpaca_eval/old", "gold/alpaca_eval/new"]
    estimates = Estimates(plan, Store(folder / "store")).of
    assert [estimates[stage.key].judge_calls for stage in gold] == [24, 24]


@pytest.mark.slow
def test_peoples_verdicts_from_a_file_and_beside_the_board(folder: Path) -> None:
    write_systems(folder)
    ids = [instruction_id(text) for text in instructions()]
    verdicts = [
        GoldVerdict(benchmark="alpaca_eval", prompt=key, row=row, value=1.0 + (i % 5 == 0), by="people")
        for row in ("old", "new")
        for i, key in enumerate(ids[::2] + ids[1:10:2])
    ]
    people = verdicts_text(verdicts)
    (folder / "labels.jsonl").write_text(people)
    done = run(folder, RECORDED)
    rows = read_board(done.folder).entries
    figures = {row.id: row.metrics[FIGURE] for row in rows}
    assert {figure.n for figure in figures.values()} == {len(verdicts) / 2}
    assert rows[0].provenance.gold["alpaca_eval"]["by"] == "people"
    assert (done.folder / "gold" / "recipe.jsonl").read_text() == people
    without = RECORDED.replace("  gold: {file: labels.jsonl}\n", "")
    run(folder, without)
    assert not (done.folder / "gold" / "recipe.jsonl").exists()
    assert FIGURE not in read_board(done.folder).entries[0].metrics
    (done.folder / "gold").mkdir(exist_ok=True)
    (done.folder / "gold" / "abc.jsonl").write_text(people)
    run(folder, without)  # no run takes away what people have said
    assert {row.id: row.metrics[FIGURE] for row in read_board(done.folder).entries} == figures
    before = contents(done.folder)
    run(folder, without)
    assert contents(done.folder) == before


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        ("{prompts: 24}", "either a judge or a file"),
        ("{judge: {name: replay}}", "'replay' has no verdicts"),
        ("{file: none.jsonl}", "none.jsonl can't be read"),
        ("{judge: {name: local, model: smollm2-135m-instruct}, prompts: 5}", "expected at least 20"),
        ("{judge: {name: local, modl: x}}", "modl"),
        ("{file: old.json}", "old.json"),
    ],
)
def test_what_can_not_be_gold(folder: Path, gold: str, reason: str) -> None:
    lines = [line if "gold:" not in line else f"  gold: {gold}\n" for line in RECIPE.splitlines(True)]
    (folder / "x.yaml").write_text("".join(lines))
    with pytest.raises(RecipeError) as error:
        load_study(folder / "x.yaml")
    assert reason in str(error.value)
    assert "x.yaml" in str(error.value)
