"""`import harness`: a recipe is run, its board read and a gate asked from Python, as in a notebook."""

import json
import logging
import signal
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.errors import DataError, HarnessError, RecipeError
from harness.gate.check import PASS, REFUSED
from harness.types import RankedExample
from tests.api.recipes import tiny_recipe
from tests.sample_boards import markdown_tables
from tests.training.runs import loaded_outside


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def recipe(wordy_tiny_model: Path) -> dict[str, Any]:
    return tiny_recipe(wordy_tiny_model)


@pytest.fixture(scope="module")
def run(folder: Path, recipe: dict[str, Any]) -> harness.Run:
    """The first run into `folder`."""
    return again(folder, recipe)


def again(folder: Path, recipe: dict[str, Any] | Path, **options: Any) -> harness.Run:
    return harness.run(recipe, leaderboards=folder / "boards", store=folder / "store", progress=False, **options)


def test_a_run_has_its_board(run: harness.Run, folder: Path) -> None:
    assert run.folder == folder / "boards" / "tiny"
    assert list(run.rows) == ["base", "dpo", "multi-dpo"]
    assert run.rows["base"].metrics["alpaca_eval.win_rate"].value == 50
    assert harness.load_board(run.folder) == harness.load_board(str(run.folder / "board.json")) == run.board
    assert (run.folder / "index.html").is_file()
    assert (run.ran, run.reused, run.spent) == (len(harness_stages(run)), 0, 0)
    assert repr(run).startswith("<Run tiny: 3 rows, ")
    assert "\n" not in repr(run)
    shown = run._repr_markdown_()
    assert "Uncalibrated judge" in shown
    (table,) = markdown_tables(shown)
    assert [line[:2] for line in table] == [
        ["row", "loss"],
        ["base", "–"],
        ["dpo", "dpo_best_worst"],
        ["multi-dpo", "mdpo_linear"],
    ]


def harness_stages(run: harness.Run) -> list[str]:
    return [stage.id for stage in run.completed.plan.stages]


def test_checkpoints_load(run: harness.Run, wordy_tiny_model: Path) -> None:
    assert list(run.checkpoints) == ["dpo", "multi-dpo"]
    for checkpoint in run.checkpoints.values():
        assert checkpoint.adapter
        assert checkpoint.base == str(wordy_tiny_model)
        assert loaded_outside(checkpoint.path, checkpoint.base).config.vocab_size > 256


def test_what_auto_stands_for_is_told_and_recorded(run: harness.Run, folder: Path, recipe: dict[str, Any]) -> None:
    auto = recipe | {"policy": {**recipe["policy"], "dtype": "auto"}}
    told = harness.run(auto, leaderboards=folder / "auto", store=folder / "store", progress=False)
    assert told.ran == 0  # float32 here, as in the first run
    reason = "dtype auto is float32 here: "
    assert reason in (told.folder / "run.log").read_text()
    assert reason in " ".join(repr(harness.plan(auto)).split())
    for mine, first in zip(told.board.entries, run.board.entries, strict=True):
        assert mine.provenance.auto_dtype.startswith(reason)
        assert mine.provenance.policy["dtype"] == "float32"
        assert first.provenance.auto_dtype is None


def test_the_dataset_is_read_as_examples(run: harness.Run) -> None:
    (dataset,) = run.datasets.values()
    assert list(run.datasets) == [""]
    assert dataset.path.name == "ranked.jsonl"
    assert "ranked" in dataset.card.read_text()
    examples, heldout = dataset.examples(), dataset.heldout()
    assert (len(examples), len(heldout)) == (12, 4)
    for example in [*examples, *heldout]:
        assert isinstance(example, RankedExample)
        scores = [response.score for response in example.responses if response.score is not None]
        assert scores == sorted(scores, reverse=True)


def test_a_gate_is_asked_of_a_run_a_board_or_a_path(run: harness.Run) -> None:
    results = [
        harness.gate(board, row="multi-dpo", baseline_row="dpo", margin=100, allow=True)
        for board in (run, run.board, run.folder)
    ]
    results.append(harness.gate(run, run, row="multi-dpo", baseline_row="dpo", margin=100, allow=True))
    results.append(harness.gate(run, str(run.folder), row="multi-dpo", baseline_row="dpo", margin=100, allow=True))
    assert {result.code for result in results} == {PASS}
    assert len({result.reason for result in results}) == 1
    assert run.gates == results[:1]
    assert harness.gate(run, row="dpo", metric="mt_bench.score", minimum=5).code == REFUSED
    assert harness.gate(run, run.folder, row="dpo", margin=100, allow=True).baseline == "dpo"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row": "dpx"}, "tiny: no row 'dpx'; did you mean 'dpo'?"),
        ({}, "tiny has 2 rows; name one with row: dpo, multi-dpo"),
        ({"row": "dpo", "margin": -1}, "gate: margin: expected a number of at least 0, got -1"),
        ({"row": "dpo", "alpha": 0.9}, "gate: alpha: expected a number above 0 and below 0.5, got 0.9"),
        ({"row": "dpo", "baseline": "/nowhere"}, "/nowhere does not exist"),
    ],
)
def test_a_gate_that_can_t_be_asked_is_an_error(run: harness.Run, options: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError) as caught:
        harness.gate(run.board, **options)
    assert str(caught.value).startswith(message)


def test_a_second_run_reuses_everything_and_leaves_the_process_as_it_was(
    run: harness.Run, folder: Path, recipe: dict[str, Any]
) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers), [list(h.filters) for h in root.handlers], list(warnings.filters)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    second = again(folder, recipe)
    assert (second.ran, second.reused) == (0, run.ran)
    assert second.board.entries == run.board.entries
    after = root.level, list(root.handlers), [list(h.filters) for h in root.handlers], list(warnings.filters)
    assert after == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)] == handlers


@pytest.mark.slow
def test_it_runs_in_another_thread(run: harness.Run, folder: Path, recipe: dict[str, Any]) -> None:
    """Also a stage: of another seed nothing is in the store but the data."""
    runs: list[harness.Run] = []
    edits = ["methods[dpo].loss.beta=0.3", "name=other"]
    threads = [threading.Thread(target=lambda: runs.append(again(folder, recipe, edits=edits))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs) == 2
    assert sorted(run.ran > 0 for run in runs) == [False, True]  # one after the other, and the second finds all
    assert runs[0].board.entries == runs[1].board.entries
    assert runs[0].folder == folder / "boards" / "other"


@pytest.mark.slow
def test_progress_is_plain_lines_where_there_is_no_terminal(
    folder: Path, recipe: dict[str, Any], run: harness.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    harness.run(recipe, edits=["seed=4"], leaderboards=folder / "boards", store=folder / "store")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.strip().endswith(" train/multi-dpo") for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_a_plan_lists_stages_and_costs(
    run: harness.Run, folder: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as notebooks' kernels do
    done = harness.plan(recipe, store=folder / "store")
    assert {stage.id for stage in done.stages} == set(harness_stages(run))
    assert all(stage.in_store for stage in done.stages)
    assert done.cost.seconds == 0
    fresh = harness.plan(recipe, edits="training.epochs=3", store=folder / "store")
    missing = {stage.id: stage.kind for stage in fresh.stages if not stage.in_store}
    assert missing["train/dpo"] == "train"
    assert fresh.cost.trained > 0
    text = repr(fresh)
    assert "train/multi-dpo" in text
    assert "to run" in text
    assert "about, in all" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_a_recipe_s_file_gives_what_its_data_gives(folder: Path, recipe: dict[str, Any], run: harness.Run) -> None:
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(recipe, default=str))  # JSON is YAML
    assert again(folder, path).ran == 0
    assert again(folder, str(path), edits=["gates=[]"]).gates == []


@pytest.mark.slow
def test_a_sweep_is_run_whole_or_one_cell_of_it(folder: Path, recipe: dict[str, Any], run: harness.Run) -> None:
    sweep = {"cells": [{"id": "low", "methods[dpo].loss.beta": 0.1}, {"id": "high", "methods[dpo].loss.beta": 0.3}]}
    swept = recipe | {"name": "swept", "sweep": sweep, "gates": []}
    assert repr(harness.plan(swept, store=folder / "store")).startswith("2 cells, 4 rows, ")
    whole = again(folder, swept)
    assert list(whole.datasets) == ["low", "high"]
    assert list(whole.checkpoints) == ["multi-dpo", "dpo.low", "dpo.high"]
    one = again(folder, swept, cell="high")
    assert (one.folder.name, one.ran) == ("swept.high", 0)
    assert list(one.datasets) == ["high"]
    assert list(one.rows) == ["base", "dpo", "multi-dpo"]


def test_data_alone_has_no_board(folder: Path, recipe: dict[str, Any], run: harness.Run) -> None:
    only_data = {key: recipe[key] for key in ("name", "seed", "policy", "data")} | {"name": "data"}
    done = again(folder, only_data)
    assert (done.rows, done.checkpoints, done.gates) == ({}, {}, [])
    ids = [example.id for example in run.datasets[""].examples()]
    assert [example.id for example in done.datasets[""].examples()] == ids
    assert "no board" in repr(done)
    assert "no board" in done._repr_markdown_()
    with pytest.raises(DataError, match="recipe data: no board"):
        done.board  # noqa: B018


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sed": 1}, "recipe: sed: unknown field; did you mean 'seed'?"),
        ({"seed": float("nan")}, "recipe: seed: expected a finite number"),
        ({"data": {"seeds": {1, 2}}}, "recipe: data.seeds: expected text, a number, a list or a mapping, got set"),
        ({"data": {7: 1}}, "recipe: data: expected a field name, got 7"),
        ({"name": "half \ud800"}, "recipe: name: expected text, got half of a surrogate pair"),
        ({"policy": {"model": "no/such/folder"}}, "recipe: policy.model: "),
        ({"data": {"seeds": [{"name": "jsonl", "path": "none.jsonl"}]}}, "recipe: "),
    ],
)
def test_a_wrong_recipe_is_one_line(recipe: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        harness.plan(recipe | changes)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_holds_itself_is_refused(recipe: dict[str, Any]) -> None:
    inner: dict[str, Any] = {}
    inner["training"] = inner
    with pytest.raises(RecipeError, match=r"recipe: training\.training\.training\.training: nested more than 64 deep"):
        harness.plan(recipe | inner)


def test_paths_are_relative_to_the_working_folder(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"{i} + {i}?", "chosen": str(2 * i), "rejected": "no"} for i in range(8)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    data = recipe["data"] | {"seeds": [{"name": "jsonl", "path": "own.jsonl"}]}
    assert harness.plan(recipe | {"data": data}).stages[0].kind == "seeds"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: harness.run("none.yaml"), "none.yaml: no such file"),
        (lambda: harness.run({"name": "x"}, cell="a"), "recipe"),
        (lambda: harness.load_board("/nowhere"), "/nowhere does not exist"),
    ],
)
def test_errors_are_of_one_kind(call: Callable[[], object], message: str) -> None:
    with pytest.raises(HarnessError) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_a_folder_that_can_t_be_written_is_an_error(recipe: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match="file/tiny: Not a directory"):
        harness.run(recipe, leaderboards=tmp_path / "file", store=tmp_path / "store", progress=False)
