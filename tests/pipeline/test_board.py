"""Whether a run's board may take the place of what is in its folder: asked before the run, and again at its end."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.boards.read import read_board
from harness.boards.versions.history import last_kept
from harness.errors import StoreError
from harness.pipeline.entries import _calibration
from harness.pipeline.progress import SilentView
from harness.pipeline.run import CompletedRun, run_study
from harness.recipe.evaluation import Evaluation
from harness.recipe.load import load_study
from harness.report.changes.found import changes_between
from tests.recipe.test_systems import instructions
from tests.sample_boards import contents

RECIPE = """\
name: study
evaluation:
  judge: {name: replay}
  benchmarks: [{name: alpaca_eval, prompts: builtin, reference: file, limit: 12}]
systems:
  - {id: old, answers: {alpaca_eval: old.json}, verdicts: {alpaca_eval: old.v.json}}
  - {id: new, answers: {alpaca_eval: new.json}, verdicts: {alpaca_eval: new.v.json}}
"""
Run = Callable[..., CompletedRun]


def write_systems(folder: Path, unscored: int = 0) -> None:
    for name in ("old", "new"):
        outputs = [{"instruction": q, "output": f"{name} {q}"} for q in instructions()]
        verdicts = [
            {
                "instruction": o["instruction"],
                "output_2": o["output"],
                "annotator": "them",
                "preference": 1.5 + i % 2 / 4,
            }
            for i, o in enumerate(outputs)
        ]
        (folder / f"{name}.json").write_text(json.dumps(outputs))
        (folder / f"{name}.v.json").write_text(json.dumps(verdicts[unscored:] if name == "new" else verdicts))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe, its store and its board."""
    folder = tmp_path_factory.mktemp("first")
    write_systems(folder)
    (folder / "x.yaml").write_text(RECIPE)
    run_study(load_study(folder / "x.yaml"), folder / "boards", folder / "store", SilentView())
    return folder


@pytest.fixture
def run(first: Path, tmp_path: Path) -> Run:
    """Runs an edited recipe in a copy of that folder."""
    shutil.copytree(first, tmp_path, dirs_exist_ok=True)

    def edited(*edits: tuple[str, str], boards: str = "boards", replace: bool = False) -> CompletedRun:
        text = RECIPE
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "x.yaml").write_text(text)
        study = load_study(tmp_path / "x.yaml")
        return run_study(study, tmp_path / boards, tmp_path / "store", SilentView(), replace=replace)

    return edited


def refused(run: Run, folder: Path, named: str, *edits: tuple[str, str]) -> None:
    """A run is refused in one line, and changes nothing in the board's folder but its log."""
    before = contents(folder)
    with pytest.raises(StoreError, match=named) as raised:
        run(*edits)
    assert "\n" not in str(raised.value)
    after = contents(folder)
    for files in (before, after):
        files.pop("run.log", None)
    assert after == before


FEWER = ("limit: 12", "limit: 2")


@pytest.mark.slow
def test_a_run_on_far_fewer_prompts_is_refused_before_it_begins(run: Run, tmp_path: Path) -> None:
    stored = contents(tmp_path / "store")
    board = tmp_path / "boards" / "study"
    refused(run, board, "'old' has 2 scored prompts.*it has 12; nothing has been computed.*--replace", FEWER)
    assert contents(tmp_path / "store") == stored
    done = run(FEWER, replace=True)
    assert done.board
    assert {len(entry.outcomes["alpaca_eval"]) for entry in done.board.entries} == {2}
    run()  # and back: more prompts are no loss


def test_a_run_whose_verdicts_are_missing_is_refused_at_its_end(run: Run, tmp_path: Path) -> None:
    write_systems(tmp_path, unscored=len(instructions()) - 4)
    refused(run, tmp_path / "boards" / "study", "'new' has [012] scored prompts.*results are in the store.*--replace")
    done = run(replace=True)
    assert done.executed.ran == 0
    assert done.board
    assert done.board.entries[1].metrics["alpaca_eval.win_rate"].n_invalid > 8


@pytest.mark.slow
def test_a_recipe_may_be_edited_and_keep_its_name(run: Run, tmp_path: Path) -> None:
    done = run(("id: new", "id: newer"), ("12", "11"))
    assert done.board
    assert [entry.id for entry in done.board.entries] == ["old", "newer"]
    board = tmp_path / "boards" / "study"
    assert done.kept == last_kept(board)
    assert [entry.id for entry in read_board(last_kept(board)).entries] == ["old", "new"]
    assert [change.field for change in changes_between(read_board(last_kept(board)), done.board).recipe] == [
        *("evaluation.benchmarks.0.limit (alpaca_eval)", "systems.1 (new)", "systems.1 (newer)")
    ]
    names = {name for name in contents(board) if "/" in name and not name.startswith("history/")}
    assert names == {
        *(f"entries/{row}.json" for row in ("old", "newer")),
        *(f"data/alpaca_eval/{row}/{n}.json" for row in ("old", "newer") for n in ("annotations", "model_outputs")),
    }


def test_the_same_board_is_not_kept_twice(run: Run, tmp_path: Path) -> None:
    assert run().kept is None
    assert not (tmp_path / "boards" / "study" / "history").exists()


def test_the_data_of_a_user_stay(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "study" / "data" / "pairs.jsonl"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    (tmp_path / "study" / "data" / "raw").symlink_to(tmp_path / "store")
    for _ in range(2):
        assert run(boards=".").board
    assert mine.read_text() == "mine"
    assert (tmp_path / "study" / "data" / "raw" / "artifacts").is_dir()


def test_another_recipe_s_board_is_kept(run: Run, tmp_path: Path) -> None:
    (tmp_path / "boards" / "study").rename(tmp_path / "boards" / "mine")
    board = tmp_path / "boards" / "mine"
    log = (board / "run.log").read_bytes()
    refused(run, board, "holds row 'old' of recipe 'study'.*--replace", ("name: study", "name: mine"))
    assert (board / "run.log").read_bytes() == log
    done = run(("name: study", "name: mine"), replace=True)
    assert done.board
    assert done.kept is not None
    assert read_board(done.kept).name == "study"


def test_a_damaged_board_is_kept_until_it_is_replaced(run: Run, tmp_path: Path) -> None:
    board = tmp_path / "boards" / "study"
    (board / "entries" / "old.json").write_text("{")
    refused(run, board, r"old\.json can't be read.*--replace")
    assert run(replace=True).board


@pytest.mark.parametrize("name", ["run.log", "entries", "data", "index.html", "."])
def test_links_are_refused_before_the_run(run: Run, tmp_path: Path, name: str) -> None:
    board, secret = tmp_path / "boards" / "study", tmp_path / "secret"
    path = board / name if name != "." else board
    path.rename(secret)
    path.symlink_to(secret)
    before = contents(secret) if secret.is_dir() else secret.read_bytes()
    for replace in (False, True):
        with pytest.raises(StoreError, match="is a symbolic link"):
            run(replace=replace)
    assert (contents(secret) if secret.is_dir() else secret.read_bytes()) == before


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_history_that_is_no_folder_is_refused_before_the_run(run: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "boards" / "study" / "history"
    path.write_text("mine") if kind == "file" else path.symlink_to(tmp_path)
    refused(run, path.parent, r"history is a (regular file|symbolic link); expected a folder: move it away")


def test_the_folder_of_all_boards_may_be_a_link(run: Run, tmp_path: Path) -> None:
    (tmp_path / "boards").rename(tmp_path / "large disk")
    (tmp_path / "boards").symlink_to(tmp_path / "large disk")
    assert run().board


LENGTH = {"name": "reward_model", "reward": {"name": "length"}}
RULE = {"name": "reward_model", "reward": {"name": "gold", "sentences": [1, 1]}}


@pytest.mark.parametrize(
    ("judge", "judges", "verdict"),
    [
        (RULE, {}, "rule"),
        (RULE, {"mt_bench": LENGTH}, "uncalibrated"),
        (LENGTH, {"mt_bench": RULE}, "uncalibrated"),
        (LENGTH, {}, "uncalibrated"),
    ],
)
def test_a_board_calls_its_judges_a_rule_only_if_all_are(
    judge: dict[str, Any], judges: dict[str, Any], verdict: str
) -> None:
    benchmarks = [{"name": "alpaca_eval", "prompts": "builtin"}, {"name": "mt_bench", "questions": "builtin"}]
    evaluation = Evaluation.model_validate({"judge": judge, "judges": judges, "benchmarks": benchmarks})
    found = _calibration(evaluation, {})
    assert (found if isinstance(found, str) else found.verdict) == verdict
    assert isinstance(found, str) or found.text == "a rule, exact by definition: 1 sentence"
