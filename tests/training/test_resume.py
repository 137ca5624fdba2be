"""A stopped run goes on as if nothing had happened, and what it keeps on the way can be loaded."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.models.checkpoints import adapters
from harness.training.ranked.ranked_trainer import RankedTrainer
from tests import forked
from tests.training.models import examples
from tests.training.runs import assert_same_steps, assert_same_weights, loaded_outside, train, untimed


def train_and_die(model: Path, folder: Path, after: int, options: dict[str, Any]) -> None:
    """In a process of its own: it is killed once it has saved this step."""
    own = RankedTrainer._save_checkpoint

    def save(self: RankedTrainer, *args: Any, **kwargs: Any) -> None:
        own(self, *args, **kwargs)
        if self.state.global_step == after:
            os.kill(os.getpid(), signal.SIGKILL)

    RankedTrainer._save_checkpoint = save  # type: ignore[method-assign]
    torch.set_num_threads(1)  # as in the other's
    train(model, examples(20), folder, partial_folder=folder / "partial", **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "lora",
    [
        {"r": 4, "dropout": 0.2},
        {"r": 4},
        False,
    ],
)
def test_a_killed_run_goes_on_in_mid_epoch_as_if_nothing_had_happened(
    tiny_model: Path, tmp_path: Path, lora: Any
) -> None:
    """Killed by SIGKILL after its fourth save (of 15 steps, 5 an epoch: the 8th step is in the second epoch)."""
    data = examples(20)
    options: dict[str, Any] = {"lora": lora, "epochs": 3, "save_every": 2}
    straight, expected = train(tiny_model, data, tmp_path / "straight", **options)
    folder = tmp_path / "killed"
    assert forked.call(train_and_die, tiny_model, folder, 8, options) == -signal.SIGKILL
    partial = folder / "partial"
    assert len((partial / "steps.jsonl").read_text().splitlines()) == 8
    with (partial / "steps.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')  # a torn line
    (partial / "checkpoint-10").mkdir()  # a torn checkpoint
    new = tmp_path / "resumed"
    report, steps = train(tiny_model, data, new, partial_folder=partial, **options)
    assert_same_steps(steps, expected, rel=1e-6)
    assert_same_weights(tmp_path / "straight", new, atol=1e-7)
    timed = {"seconds"}
    assert {k: v for k, v in report.items() if k not in timed} == {k: v for k, v in straight.items() if k not in timed}


def test_a_run_that_was_killed_after_its_last_step_takes_no_further_one(tiny_model: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1.6, "save_every": 4, "lr_scheduler": "constant_with_warmup"}
    partial = tmp_path / "partial"
    straight, expected = train(tiny_model, examples(20), tmp_path / "one", partial_folder=partial, **options)
    assert straight["steps"] == 8
    assert (partial / "checkpoint-8").exists()
    rights = {path.stat().st_mode for path in partial.rglob("*") if path.is_file()}
    assert rights == {(partial / "steps.jsonl").stat().st_mode}, "another user of a shared store may resume"
    report, steps = train(tiny_model, examples(20), tmp_path / "two", partial_folder=partial, **options)
    assert report["steps"] == 8
    assert untimed(steps) == untimed(expected)
    assert_same_weights(tmp_path / "one", tmp_path / "two", atol=0)


def test_a_checkpoint_without_its_optimizer_is_not_gone_on_from(tiny_model: Path, tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    options: dict[str, Any] = {"epochs": 2, "save_every": 3}
    _, expected = train(tiny_model, examples(20), tmp_path / "one", partial_folder=partial, **options)
    for late in ("checkpoint-9", "checkpoint-10"):
        shutil.rmtree(partial / late, ignore_errors=True)
    (partial / "checkpoint-6" / "optimizer.pt").unlink()
    _, steps = train(tiny_model, examples(20), tmp_path / "two", partial_folder=partial, **options)
    assert_same_steps(steps, expected, rel=1e-6)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


WEIGHTS = "adapter_model.safetensors"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("optimizer.pt", flipped),
        pytest.param("optimizer.pt", cut, marks=pytest.mark.slow),
        (WEIGHTS, flipped),
        pytest.param(WEIGHTS, Path.unlink, marks=pytest.mark.slow),
        ("checksums.json", cut),
    ],
)
def test_a_damaged_checkpoint_is_named_and_not_gone_on_from(
    name: str, damage: Any, tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    partial = tmp_path / "partial"
    options: dict[str, Any] = {"epochs": 1, "save_every": 2}
    _, expected = train(tiny_model, examples(12), tmp_path / "one", partial_folder=partial, **options)
    for checkpoint in partial.glob("checkpoint-*"):
        damage(checkpoint / name)
    _, steps = train(tiny_model, examples(12), tmp_path / "two", partial_folder=partial, **options)
    assert_same_steps(steps, expected, rel=1e-6)
    assert [message for message in caplog.messages if f"{name}: damaged" in message]


def test_a_cut_optimizer_is_noticed_without_checksums(tiny_model: Path, tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    options: dict[str, Any] = {"epochs": 1, "save_every": 2}
    _, expected = train(tiny_model, examples(12), tmp_path / "one", partial_folder=partial, **options)
    for checkpoint in partial.glob("checkpoint-*"):
        (checkpoint / "checksums.json").unlink()
        cut(checkpoint / "optimizer.pt")
    _, steps = train(tiny_model, examples(12), tmp_path / "two", partial_folder=partial, **options)
    assert_same_steps(steps, expected, rel=1e-6)


def test_save_every_keeps_checkpoints_that_transformers_loads(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    train(tiny_model, examples(12), tmp_path / "run", epochs=2, save_every=3)
    kept = tmp_path / "run" / "checkpoints"
    assert sorted(p.name for p in kept.iterdir()) == ["step-3", "step-6"]
    for folder in kept.iterdir():
        assert not [p for p in folder.iterdir() if p.suffix in {".pt", ".pth", ".bin"}]
        loaded_outside(folder, folder / adapters.settings(folder)["base_model_name_or_path"])
        AutoTokenizer.from_pretrained(folder)
    from safetensors.torch import load_file

    last, final = (load_file(f / "adapter_model.safetensors") for f in (kept / "step-6", tmp_path / "run/checkpoint"))
    for name in final:
        torch.testing.assert_close(last[name], final[name])


@pytest.mark.slow
def test_a_run_goes_on_within_its_warm_up(tiny_model: Path, tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    options: dict[str, Any] = {"epochs": 2, "save_every": 3, "warmup_ratio": 0.5, "lr_scheduler": "cosine"}
    _, expected = train(tiny_model, examples(20), tmp_path / "one", partial_folder=partial, **options)
    rates = [step["learning_rate"] for step in expected]
    assert rates[:6] == pytest.approx([5e-3 * k / 6 for k in (1, 2, 3, 4, 5, 6)])
    for late in ("checkpoint-6", "checkpoint-9", "checkpoint-10"):
        shutil.rmtree(partial / late, ignore_errors=True)
    _, steps = train(tiny_model, examples(20), tmp_path / "two", partial_folder=partial, **options)
    assert [step["learning_rate"] for step in steps] == rates
    assert_same_steps(steps, expected, rel=1e-6)
    assert_same_weights(tmp_path / "one", tmp_path / "two", atol=1e-7)
