"""Runs in TensorBoard, read back by its own reader."""

from pathlib import Path
from typing import Any

import pytest

from harness.trackers.curves import curves, summarise
from harness.trackers.tracked import tracking
from harness.training.steps import read_steps
from tests.trackers.runs import tracked, train_each
from tests.training.models import examples
from tests.training.runs import train

pytest.importorskip("tensorboard")


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def hyperparameters(folder: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(folder))
    events.Reload()
    found: set[str] = set()
    for content in events.summary_metadata.values():
        if content.plugin_data.plugin_name == "hparams":
            found |= set(HParamsPluginData.FromString(content.plugin_data.content).session_start_info.hparams)
    return found


@pytest.mark.slow
def test_every_training_is_a_run_with_its_losses(tiny_model: Path, tmp_path: Path) -> None:
    train_each(tiny_model, tmp_path, "tensorboard")
    folders = sorted((tmp_path / "logs" / "tiny").iterdir())
    assert [folder.name.rpartition("-")[0] for folder in folders] == ["ranked", "reward", "sft", "trl"]
    for folder in folders:
        steps = read_steps(tmp_path / folder.name.rpartition("-")[0] / "steps.jsonl")
        assert len(steps) == 2
        assert curve(folder, "train/loss") == [(s["step"], pytest.approx(s["loss"], rel=1e-4)) for s in steps]
    assert len(curve(folders[0], "train/logp_by_rank/1")) == 2


def test_a_resumed_training_goes_on_in_its_run(tiny_model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Stopped after its third step, with a checkpoint of the second, of five."""
    from harness.training.ranked.ranked_trainer import RankedTrainer

    class Stopped(Exception):
        pass

    def fail(self: RankedTrainer, logs: dict[str, float], start_time: float | None = None) -> None:
        own(self, logs, start_time)
        if self.state.global_step == 3:
            raise Stopped

    own, run = RankedTrainer.log, tracked(tmp_path / "logs", "tensorboard")
    options: dict[str, Any] = {"epochs": 1, "save_every": 2, "partial_folder": tmp_path / "partial"}
    with monkeypatch.context() as patch, tracking(run):
        patch.setattr(RankedTrainer, "log", fail)
        with pytest.raises(Stopped):
            train(tiny_model, examples(20), tmp_path / "first", **options)
    with tracking(run):
        _, steps = train(tiny_model, examples(20), tmp_path / "second", **options)
    (folder,) = (tmp_path / "logs" / "tiny").iterdir()
    assert [step for step, _ in curve(folder, "train/loss")] == [1, 2, 3, 4, 5]
    assert [loss for _, loss in curve(folder, "train/loss")] == pytest.approx([s["loss"] for s in steps], rel=1e-4)


def test_final_figures_stand_once_beside_the_settings(tmp_path: Path) -> None:
    run = tracked(tmp_path, "tensorboard")
    summarise(run, {"board/alpaca_eval.win_rate": 40.0}, [])
    summarise(run, {"board/alpaca_eval.win_rate": 55.5}, [])
    (folder,) = (tmp_path / "tiny").glob("*/board")
    assert [value for _, value in curve(folder, "board/alpaca_eval.win_rate")] == [55.5]
    assert {"loss.name", "loss.beta", "training.lora.r", "training.modules"} <= hyperparameters(folder)


def test_only_the_first_of_several_processes_draws(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with tracking(tracked(tmp_path / "logs", "tensorboard")), curves() as callbacks:
        assert callbacks == []
    assert not (tmp_path / "logs").exists()
