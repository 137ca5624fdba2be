"""FSDP in two processes of a CPU: losses, weights and log-probabilities are those of one process."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import harness.training.processes as processes
from harness.recipe.launch import Accelerate, Launch
from harness.recipe.policy import Policy
from harness.recipe.training import Lora
from harness.training.passes import log_probabilities
from tests.stand_ins import record_processor
from tests.tiny import tiny_tokenizer
from tests.training.models import example, examples, tiny
from tests.training.processes.test_passes import logp_pass, rewards, rows, scorer
from tests.training.processes.test_training import job
from tests.training.runs import LORA, UNEVEN, assert_same_steps, assert_same_weights, train, weights

CONFIG = Path(__file__).parents[3] / "recipes" / "accelerate" / "fsdp.yaml"
SHARDED = Accelerate(num_processes=2, config=CONFIG)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_sharding", "together")]


@pytest.fixture
def _sharding(monkeypatch: pytest.MonkeyPatch) -> None:
    command = processes._command

    def on_cpu(*args: Any) -> list[str]:
        module = "tests.training.processes.sharded_on_cpu"
        return [module if part == "harness.training.processes" else part for part in command(*args)]

    monkeypatch.setattr(processes, "_command", on_cpu)


def steps_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("lora", [LORA, None])
def test_two_processes_train_as_one(
    tiny_model: Path, tmp_path: Path, lora: Lora | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The head and the embeddings are one weight, and the last step of an epoch is a short one."""
    data = [*UNEVEN, example("odd", ("aa", 1.0), ("11", 0.0))]
    _, expected = train(tiny_model, data, tmp_path / "one", epochs=2, lora=lora, micro=1)
    with caplog.at_level("INFO", logger="harness.training.processes"):
        report = job(tiny_model, data, tmp_path / "two", epochs=2, lora=lora, save_every=3).launch(SHARDED, print)
    assert "training in 2 process(es): FSDP" in caplog.text
    assert report["prompts_seen"] == 18
    assert_same_steps(steps_of(tmp_path / "two"), expected, rel=1e-4)
    assert_same_weights(tmp_path / "one", tmp_path / "two", atol=2e-4)
    step = tmp_path / "two" / "checkpoints" / "step-3"
    assert not [path for path in step.iterdir() if path.suffix in (".bin", ".pt")], "only what loads a policy"


@pytest.mark.parametrize("settings", [{}, {"lora": None, "gradient_checkpointing": True}])
def test_it_goes_on_after_a_stop(settings: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    """With adapters; and, in other processes, all weights, whose activations are computed again in the backward
    pass."""
    data = examples(12)
    _, expected = train(tiny_model, data, tmp_path / "one", epochs=3, micro=1, **settings)
    whole = job(tiny_model, data, tmp_path / "two", epochs=3, save_every=5, **settings)
    whole.launch(SHARDED, lambda _n: None)
    shutil.rmtree(whole.partial_folder / "checkpoint-9")
    again = whole.model_copy(update={"folder": tmp_path / "again"})
    again.folder.mkdir()
    if settings:
        processes.run_job(again, SHARDED, again.partial_folder, lambda _n: None)
    else:
        again.launch(SHARDED, lambda _n: None)
    assert_same_steps(steps_of(again.folder), expected, rel=1e-4)
    assert_same_weights(tmp_path / "one", again.folder, atol=2e-4)


def test_weights_and_gradients_travel_in_bfloat16(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Losses are within bfloat16's precision; what was trained is in float32."""
    record_processor(good=True)
    model = tmp_path / "model"
    tiny_tokenizer(model)
    tiny("llama").to(torch.bfloat16).save_pretrained(model)
    policy = {"policy": Policy(model=str(model), dtype="bfloat16"), "dtype": "bfloat16"}
    two = job(model, UNEVEN, tmp_path / "two", epochs=2, lora=None, learning_rate=1e-3).model_copy(update=policy)
    one = two.model_copy(update={"folder": tmp_path / "one", "partial_folder": tmp_path / "partial"})
    one.folder.mkdir()
    one.run(lambda _n: None)
    with caplog.at_level("INFO", logger="harness.training.processes"):
        two.launch(SHARDED, lambda _n: None)
    assert "gathered, and gradients added up, in torch.bfloat16" in caplog.text
    for ours, theirs in zip(steps_of(two.folder), steps_of(one.folder), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=0.03)
        assert ours["margin_mean"] == pytest.approx(theirs["margin_mean"], abs=0.3, rel=0.1)
    assert {tensor.dtype for tensor in weights(two.folder).values()} == {torch.bfloat16}
    (trained,) = (two.folder / "trained").glob("*.safetensors")
    assert trained.stat().st_size > 1.8 * next((two.folder / "checkpoint").glob("*.safetensors")).stat().st_size


def test_what_is_not_sharded_is_shared_whole(tiny_model: Path, tmp_path: Path) -> None:
    """Reward models, and adapters on a policy, under the same configuration."""
    launch, reward = Launch(accelerate=SHARDED), rewards("sequence_classifier", tiny_model, tmp_path)
    assert scorer(reward, tmp_path / "two", launch)(rows(7)) == scorer(reward, tmp_path / "one", None)(rows(7))
    train(tiny_model, examples(4), tmp_path / "trained")
    work = logp_pass(tiny_model, 5, adapter=tmp_path / "trained" / "checkpoint")
    alone = log_probabilities(work, None, tmp_path / "alone", print)
    together = log_probabilities(work, launch, tmp_path / "together", lambda _n: None)
    assert [row.logp for row in together] == pytest.approx([row.logp for row in alone], rel=1e-6)


@pytest.mark.parametrize("count", [1, 7])
def test_log_probabilities_are_those_of_one_process(tiny_model: Path, tmp_path: Path, count: int) -> None:
    """With a single batch, the other process only keeps step."""
    work, progress = logp_pass(tiny_model, count), list[int]()
    alone = log_probabilities(work, None, tmp_path / "one", lambda _n: None)
    assert log_probabilities(work, Launch(accelerate=SHARDED), tmp_path / "two", progress.append) == alone
    assert sum(progress) == len(work.rows)
