"""Runs in the real packages, offline: one a training, continued by the final figures. Each is skipped where its package
is not installed (`pip install wandb trackio mlflow`)."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.trackers.curves import summarise, try_again
from harness.trackers.tracked import tracking
from harness.training.steps import read_steps
from tests.trackers.runs import KEY, tracked, train_each
from tests.training.models import examples
from tests.training.runs import train

pytestmark = pytest.mark.slow
FIGURES = {"board/alpaca_eval.win_rate": 55.5, "board/alpaca_eval.win_rate.ci95_low": 41.0}
NAMES = {f"{name}-{KEY.replace('0', str(i))[:8]}" for i, name in enumerate(("ranked", "trl", "sft", "reward"))}


@pytest.fixture(autouse=True)
def _no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Files in a folder of the test's, no network, and no warning that a tracker has failed."""
    for name in ("WANDB_DIR", "WANDB_PROJECT", "TRACKIO_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    try_again()
    yield
    assert [r.getMessage() for r in caplog.records if "gets no more of it" in r.getMessage()] == []
    assert {path.name for path in tmp_path.iterdir()} <= {"ranked", "trl", "sft", "reward", "logs", "trackio", "again"}


def steps_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return read_steps(folder / name.rpartition("-")[0] / "steps.jsonl")


def test_mlflow(tiny_model: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    runs = train_each(tiny_model, tmp_path, "mlflow")
    summarise(runs["ranked"], FIGURES, [])
    found = {run.info.run_name: run for run in mlflow.search_runs(experiment_names=["tiny"], output_format="list")}
    assert found.keys() == NAMES
    client = mlflow.MlflowClient()
    for name, run in found.items():
        assert run.info.status == "FINISHED"
        assert (run.data.params["loss.beta"], run.data.tags["recipe"], run.data.tags["tags"]) == ("0.1", "tiny", "N=4")
        losses = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")]
        assert losses == [(s["step"], pytest.approx(s["loss"], abs=1e-4)) for s in steps_of(tmp_path, name)]
    (ranked,) = (run for name, run in found.items() if name.startswith("ranked"))
    assert {name: ranked.data.metrics[name] for name in FIGURES} == FIGURES


def test_trackio(tiny_model: Path, tmp_path: Path) -> None:
    trackio = pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    runs = train_each(tiny_model, tmp_path, "trackio")
    summarise(runs["ranked"], FIGURES, [])
    (project,) = {path.stem for path in (tmp_path / "trackio").glob("*.db")} or {"tiny"}
    found = {run.name: run for run in trackio.Api().runs(project)}
    assert found.keys() == NAMES
    for name, run in found.items():
        assert run.config["_Group"] == "tiny"
        losses = [entry["train/loss"] for entry in SQLiteStorage.get_logs(project, name) if "train/loss" in entry]
        assert losses == pytest.approx([step["loss"] for step in steps_of(tmp_path, name)], abs=1e-4)
    ranked = SQLiteStorage.get_logs(project, runs["ranked"].name)
    assert {name: ranked[-1][name] for name in FIGURES} == FIGURES


def test_wandb(tiny_model: Path, tmp_path: Path) -> None:
    """Offline, the folder that is left to `wandb sync` holds the curves and the figures."""
    wandb = pytest.importorskip("wandb")
    runs = train_each(tiny_model, tmp_path, "wandb")
    for name, run in runs.items():
        summarise(run, FIGURES, read_steps(tmp_path / name / "steps.jsonl"))
    wandb.teardown()  # its service has written all then
    files = sorted((tmp_path / "logs" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 8
    left = [file for file in files if not file.with_suffix(".wandb.synced").exists()]
    found = {record.run.display_name: (record.run, file) for file in left for record in records(file, "run")}
    assert found.keys() == NAMES
    for name, (run, file) in found.items():
        assert (run.run_group, run.project, list(run.tags)) == ("tiny", "preference-harness", ["N=4"])
        logged = [{i.nested_key[-1]: i.value_json for i in r.history.item} for r in records(file, "history")]
        assert [float(row["train/loss"]) for row in logged] == [s["loss"] for s in steps_of(tmp_path, name)]
        updates = (item for record in records(file, "summary") for item in record.summary.update)
        summary = {item.nested_key[-1] if item.nested_key else item.key: item.value_json for item in updates}
        assert {name: float(summary[name]) for name in FIGURES} == FIGURES


def test_all_at_once_train_the_same(tiny_model: Path, tmp_path: Path) -> None:
    for name in ("wandb", "mlflow", "trackio"):
        pytest.importorskip(name)
    _, expected = train(tiny_model, examples(8), tmp_path / "again", lora={"r": 4, "dropout": 0.3})
    with tracking(tracked(tmp_path / "logs", "wandb", "mlflow", "trackio", "tensorboard")):
        _, steps = train(tiny_model, examples(8), tmp_path / "ranked", lora={"r": 4, "dropout": 0.3})
    assert [s["loss"] for s in steps] == [s["loss"] for s in expected]


def records(file: Path, kind: str) -> Iterator[Any]:
    """A wandb file's records of a kind. It is a log as LevelDB's: blocks of 32 KiB, of fragments with headers."""
    from wandb.proto import wandb_internal_pb2

    data, position, part = file.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if (rest := -position % 2**15) < 7 and rest:
            position += rest
            continue
        _, length, fragment = struct.unpack("<IHB", data[position : position + 7])
        part += data[position + 7 : position + 7 + length]
        position += 7 + length
        if fragment in (1, 4):  # a whole record, or its last fragment
            record, part = wandb_internal_pb2.Record.FromString(part), b""
            if record.WhichOneof("record_type") == kind:
                yield record
