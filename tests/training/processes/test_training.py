"""A training in several processes, and what a launched one says: the losses are those of one process."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ModelError
from harness.recipe.launch import Accelerate
from harness.recipe.training import Lora, Training
from harness.training.processes import run_job
from harness.training.ranked.job import TrainingJob
from harness.types import RankedExample
from tests.training.models import example, examples
from tests.training.runs import (
    LENGTHS,
    LORA,
    UNEVEN,
    assert_same_steps,
    assert_same_weights,
    policy_of,
    reference_of,
    train,
)


def job(model: Path, data: list[RankedExample], folder: Path, **changes: Any) -> TrainingJob:
    fields = {"learning_rate": 5e-3, "batch_size": 4, "lora": LORA, "warmup_ratio": 0.0, **LENGTHS} | changes
    folder.mkdir()
    (folder / "examples.jsonl").write_text("".join(e.model_dump_json() + "\n" for e in data))
    (folder / "reference.json").write_text(json.dumps(reference_of(model, data)))
    return TrainingJob(
        policy=policy_of(model),
        loss={"name": "mdpo_linear", "beta": 0.1},
        training=Training.model_validate(fields),
        seed=3,
        micro_batch_size=1,
        bounded_memory=False,
        budget=None,
        examples=folder / "examples.jsonl",
        reference=folder / "reference.json",
        folder=folder,
        partial_folder=folder / "partial",
        dtype="float32",
    )


@pytest.mark.slow
@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("bounded", [False, pytest.param(True, marks=pytest.mark.soak)])
@pytest.mark.parametrize("lora", [LORA, None])
def test_two_processes_train_as_one(tiny_model: Path, tmp_path: Path, lora: Lora | None, bounded: bool) -> None:
    """Ten examples in steps of four: the last step of an epoch is a short one, shared by two processes."""
    data = [*UNEVEN, example("odd", ("aa", 1.0), ("11", 0.0)), example("tied", ("a", 1.0), ("b", 1.0))]
    _, expected = train(tiny_model, data, tmp_path / "one", epochs=2, lora=lora, micro=1)
    advanced: list[int] = []
    launched = job(tiny_model, data, tmp_path / "two", epochs=2, lora=lora)
    launched = launched.model_copy(update={"bounded_memory": bounded})
    report = launched.launch(Accelerate(num_processes=2), advanced.append)
    steps = [json.loads(line) for line in (tmp_path / "two" / "steps.jsonl").read_text().splitlines()]
    assert report["steps"] == 6
    assert report["prompts_seen"] == 18
    assert sum(advanced) == 18
    assert_same_steps(steps, expected, rel=1e-4)
    assert_same_weights(tmp_path / "one", tmp_path / "two", atol=2e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("launchable")
def test_a_configuration_that_ships(tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """DDP's; accelerate shards nothing on a CPU, so that the others can't be run here."""
    _, expected = train(tiny_model, UNEVEN, tmp_path / "one", epochs=2, micro=1)
    launched = job(tiny_model, UNEVEN, tmp_path / "two", epochs=2, save_every=2)
    file = Path(__file__).parents[3] / "recipes" / "accelerate" / "ddp.yaml"
    with caplog.at_level("INFO", logger="harness.training.processes"):
        launched.launch(Accelerate(num_processes=2, config=file), lambda _n: None)
    assert "training in 2 process(es): MULTI_CPU" in caplog.text
    steps = [json.loads(line) for line in (tmp_path / "two" / "steps.jsonl").read_text().splitlines()]
    assert_same_steps(steps, expected, rel=1e-4)
    assert_same_weights(tmp_path / "one", tmp_path / "two", atol=3e-4)
    assert sorted(p.name for p in (tmp_path / "two" / "checkpoints").iterdir()) == ["step-2", "step-4"]


@pytest.mark.slow
@pytest.mark.usefixtures("together")
def test_two_processes_compute_activations_again_as_one(tiny_model: Path, tmp_path: Path) -> None:
    """Gradient checkpointing of adapters, and several prompts a forward."""
    settings = {"epochs": 2, "gradient_checkpointing": True}
    _, expected = train(tiny_model, UNEVEN, tmp_path / "one", micro=2, **settings)
    launched = job(tiny_model, UNEVEN, tmp_path / "two", **settings).model_copy(update={"micro_batch_size": 2})
    launched.launch(Accelerate(num_processes=2), lambda _n: None)
    steps = [json.loads(line) for line in (tmp_path / "two" / "steps.jsonl").read_text().splitlines()]
    assert_same_steps(steps, expected, rel=1e-4)
    assert_same_weights(tmp_path / "one", tmp_path / "two", atol=2e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("together")
def test_two_processes_go_on_in_mid_epoch(tiny_model: Path, tmp_path: Path) -> None:
    """Stopped after the 5th of 9 steps, in the second epoch."""
    data = examples(12)
    _, expected = train(tiny_model, data, tmp_path / "one", epochs=3, micro=1)
    whole = job(tiny_model, data, tmp_path / "two", epochs=3, save_every=5)
    partial = whole.partial_folder
    whole.launch(Accelerate(num_processes=2), lambda _n: None)
    assert (partial / "checkpoint-5").exists()
    shutil.rmtree(partial / "checkpoint-9")  # as if it had been killed before
    again = whole.model_copy(update={"folder": tmp_path / "again"})
    again.folder.mkdir()
    run_job(again, Accelerate(num_processes=2), partial, lambda _n: None)  # in processes that know nothing of it
    steps = [json.loads(line) for line in (again.folder / "steps.jsonl").read_text().splitlines()]
    assert_same_steps(steps, expected, rel=1e-4)
    assert_same_weights(tmp_path / "one", again.folder, atol=2e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("together")
def test_an_error_of_a_launched_run_is_the_users_own(tiny_model: Path, tmp_path: Path) -> None:
    odd = job(tiny_model, examples(4), tmp_path / "odd", batch_size=3)
    with pytest.raises(ModelError, match="batch_size 3 can't be shared by 2 processes"):
        odd.launch(Accelerate(num_processes=2), lambda _n: None)
