"""A tracker that fails, prints, asks or is not there: the training is the same, and the user reads one line."""

import importlib
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.trackers.curves import curves, summarise, try_again
from harness.trackers.tracked import TrackedRun, tracking
from tests.trackers.runs import tracked
from tests.training.models import examples
from tests.training.runs import assert_same_weights, train

STAND_IN = '''
"""What the harness and transformers use of wandb, with faults on demand; notes all calls in a file."""
import json, os, sys
run = None
config = {{}}

class Settings:
    model_fields = {{"silent": None, "init_timeout": None}}
    def __init__(self, **fields):
        assert set(fields) <= set(self.model_fields)

class Run:
    offline, dir = False, "run/files"
    def __init__(self):
        self.summary = {{}}
    def define_metric(self, *names, **options): pass
    def log(self, values): note("log", values)
    def finish(self, exit_code=0):
        global run
        note("finish", exit_code, self.summary)
        run = None

def note(*what):
    with open({calls!r}, "a") as file:
        file.write(json.dumps(what) + "\\n")
    if os.environ.get("FAIL") == what[0]:
        raise ConnectionError(f"no network at {{what[0]}}, says the tracker")

def init(**options):
    global run
    print("wandb: created a run")
    if sys.stdin.isatty():
        input("wandb: login? ")
    note("init", {{k: v for k, v in options.items() if k not in ("settings", "config")}})
    run = Run()
    return run

def log(values):
    run.log(values)
'''


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """A stand-in for the package wandb; returns what was called. A run of the harness has just begun."""
    folder, file = tmp_path / "site" / "wandb", tmp_path / "calls.jsonl"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(STAND_IN.format(calls=str(file)))
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    for name in ("WANDB_DIR", "WANDB_PROJECT", "WANDB_MODE", "FAIL"):
        monkeypatch.delenv(name, raising=False)
    importlib.invalidate_caches()
    try_again()
    return lambda: [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_one_named_run_grouped_by_recipe(tiny_model: Path, tmp_path: Path, calls: Any, capsys: Any) -> None:
    run = tracked(tmp_path / "logs", "wandb")
    with tracking(run):
        _, steps = train(tiny_model, examples(8), tmp_path / "run")
    summarise(run, {"board/mt_bench.score": 5.5}, [])
    opened, *logged, finished, again, finished_again = calls()
    assert opened[1] == {
        "project": "preference-harness",
        "dir": str(tmp_path / "logs"),
        "id": run.id,
        "name": "multi-dpo-01234567",
        "group": "tiny",
        "job_type": "train",
        "tags": ["N=4"],
        "resume": "allow",
    }
    losses = [values["train/loss"] for _, values in logged if "train/loss" in values]
    assert losses == [step["loss"] for step in steps]
    assert again == opened, "the same run again"
    assert (finished, finished_again) == (["finish", 0, finished[2]], ["finish", 0, {"board/mt_bench.score": 5.5}])
    shown = capsys.readouterr()
    assert "wandb" not in shown.out + shown.err


def draw(run: TrackedRun) -> None:
    """A training's steps, as transformers' Trainer tells its callbacks of them."""
    from transformers import TrainerControl, TrainerState, TrainingArguments

    told = TrainingArguments(report_to="none"), TrainerState(is_world_process_zero=True), TrainerControl()
    with tracking(run), curves() as callbacks:
        for callback in callbacks:
            callback.on_train_begin(*told, model=None)
            callback.on_log(*told, logs={"loss": 0.5})
            callback.on_log(*told, logs={"loss": 0.4})
            callback.on_train_end(*told)


@pytest.mark.parametrize("fault", ["init", "log", "finish"])
def test_a_tracker_that_fails_is_left_out_of_the_rest_with_one_warning(
    tmp_path: Path, calls: Any, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FAIL", fault)
    caplog.set_level(logging.WARNING)
    run = tracked(tmp_path / "logs", "wandb")
    draw(run)
    draw(run)
    summarise(run, {"board/mt_bench.score": 5.5}, [])
    (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("harness.trackers")]
    assert warning == f"wandb: no network at {fault}, says the tracker; the run goes on, and wandb gets no more of it"
    assert [call[0] for call in calls()].count("init") == 1
    try_again()  # the next run of the harness
    monkeypatch.delenv("FAIL")
    summarise(run, {"board/mt_bench.score": 5.5}, [])
    assert [call[0] for call in calls()].count("init") == 2


def test_a_training_that_fails_is_a_failed_run(tmp_path: Path, calls: Any) -> None:
    with pytest.raises(ZeroDivisionError), tracking(tracked(tmp_path, "wandb")), curves():
        raise ZeroDivisionError
    assert [call[:2] for call in calls()][-1] == ["finish", 1]


def test_what_is_trained_is_the_same_with_a_tracker_that_fails_and_one_that_is_not_there(
    tiny_model: Path, tmp_path: Path, calls: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The latter as on a node of a cluster where it was not installed."""
    options: dict[str, Any] = {"lora": {"r": 4, "dropout": 0.3}}
    train(tiny_model, examples(4), tmp_path / "alone", **options)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("FAIL", "log")
    with tracking(tracked(tmp_path / "logs", "mlflow", "wandb")):
        train(tiny_model, examples(4), tmp_path / "run", **options)
    assert_same_weights(tmp_path / "alone", tmp_path / "run", atol=0)
    assert [r.levelname for r in caplog.records if r.name.startswith("harness.trackers")] == ["WARNING"] * 2


def test_an_address_with_a_password_is_not_repeated(
    tmp_path: Path, calls: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    def refuse(**options: Any) -> None:
        raise ConnectionError("no answer from https://me:verysecret@tracker.example")

    monkeypatch.setattr(wandb, "init", refuse)
    summarise(tracked(tmp_path, "wandb"), {}, [])
    assert "ConnectionError" in caplog.text
    assert "verysecret" not in caplog.text
