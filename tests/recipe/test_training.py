"""Mistakes in `policy`, `training` and `runtime`: one line each."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from harness import errors
from harness.errors import ModelError
from harness.pipeline.plan import make_plan
from harness.recipe import launch
from harness.recipe.sizes import Sizes
from harness.training.setup import TrainingSetup
from tests.a_recipe import RECIPE, edited, load, refused


def refused_runtime(folder: Path, runtime: str) -> str:
    return refused(folder, RECIPE + f"runtime: {runtime}\n")


def test_float16_is_refused(folder: Path) -> None:
    message = refused(folder, edited("dtype: float32", "dtype: float16"))
    assert message.startswith("recipes/x.yaml:4: policy.dtype: small gradients are lost in float16; expected bfloat16")


@pytest.mark.parametrize("where", ["training: {epochs: 1,", "    training: {epochs: 2,"])
def test_bounded_memory_has_no_dropout(folder: Path, where: str) -> None:
    text = RECIPE.replace("lora: {r: 8}", "lora: {r: 8, dropout: 0.1}") if where[0] == "t" else RECIPE
    text = text if where[0] == "t" else text.replace("{epochs: 2}", "{epochs: 2, lora: {dropout: 0.1}}")
    message = refused(folder, text + "runtime: {memory: one_response}\n")
    reason = "runtime.memory: one_response runs each forward pass twice, and dropout makes them differ; "
    assert f"{reason}use checkpointed, or set dropout to 0" in message
    load(folder, text + "runtime: {memory: checkpointed}\n")


def test_bounded_memory_of_earlier_versions_is_read(folder: Path) -> None:
    def memory(runtime: str) -> str:
        return load(folder, RECIPE + f"runtime: {runtime}\n").runtime.memory

    assert memory("{bounded_memory: true}") == memory("{memory: one_response}") == "one_response"
    assert memory("{bounded_memory: false}") == memory("{}") == "shared"
    assert memory("{bounded_memory: false, micro_batch_size: 1}") == "shared"
    for wrong in ("{bounded_memory: 1}", "{bounded_memory: true, memory: shared}"):
        assert "runtime.bounded_memory: unknown field; " in refused(folder, RECIPE + f"runtime: {wrong}\n")
    wrong = refused(folder, RECIPE + "runtime: {memory: bounded}\n")
    assert "runtime.memory: expected 'shared', 'checkpointed' or 'one_response', got 'bounded'" in wrong


def test_memory_is_in_no_key(folder: Path) -> None:
    def keys(memory: str) -> list[str]:
        return [stage.key for stage in make_plan(load(folder, RECIPE, f"runtime.memory={memory}")).stages]

    assert keys("shared") == keys("checkpointed") == keys("one_response")


@pytest.mark.parametrize(
    ("memory", "checkpointing", "engine", "advice"),
    [
        ("shared", False, "harness", "runtime.micro_batch_size: 1, or runtime.memory: checkpointed"),
        ("shared", False, "trl", "runtime.micro_batch_size: 1, or runtime.memory: checkpointed"),
        ("shared", True, "harness", "runtime.micro_batch_size: 1, or runtime.memory: one_response"),
        ("checkpointed", False, "harness", "runtime.micro_batch_size: 1, or runtime.memory: one_response"),
        ("checkpointed", False, "trl", "runtime.micro_batch_size: 1, or a smaller training.max_length"),
        ("one_response", False, "harness", "training.gradient_checkpointing, or a smaller training.max_length"),
        ("one_response", True, "harness", "a smaller training.max_length"),
        ("one_response", False, "trl", "runtime.memory: checkpointed"),
    ],
)
def test_who_runs_out_of_memory_is_told_the_next_mode(
    folder: Path, memory: str, checkpointing: bool, engine: Any, advice: str
) -> None:
    settings = (f"runtime.memory={memory}", f"training.gradient_checkpointing={str(checkpointing).lower()}")
    recipe = load(folder, RECIPE, *settings)
    assert recipe.policy
    assert recipe.data
    setup = TrainingSetup(recipe.name, recipe.policy, recipe.runtime, 0, Sizes(recipe.data))
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")):
        with pytest.raises(ModelError) as raised, setup.enough_memory(recipe.training, "train/x", engine):
            raise error
        assert str(raised.value).startswith("train/x: out of memory; finished work is kept. Set ")
        assert str(raised.value).endswith(advice)
    with pytest.raises(RuntimeError, match="shapes"), setup.enough_memory(recipe.training, "train/x", engine):
        raise RuntimeError("shapes")


def test_an_accelerate_configuration_exists_and_changes_no_precision(folder: Path) -> None:
    message = refused_runtime(folder, "{launch: {accelerate: {config: ddp.yaml}}}")
    assert "runtime.launch.accelerate.config: no such file: ddp.yaml; expected an accelerate configuration" in message
    (folder / "ddp.yaml").write_text("distributed_type: MULTI_GPU\nmixed_precision: bf16\n")
    message = refused_runtime(folder, "{launch: {accelerate: {config: ddp.yaml}}}")
    assert "mixed_precision: bf16 in ddp.yaml would change results; set it to 'no'" in message
    for text in ("mixed_precision: 'no'\n", "mixed_precision: no\n", "num_processes: 2\n"):
        (folder / "ddp.yaml").write_text(f"distributed_type: MULTI_GPU\n{text}")
        load(folder, RECIPE + "runtime: {launch: {accelerate: {config: ddp.yaml, num_processes: 2}}}\n")


def test_a_list_of_weights_has_one_per_response(folder: Path) -> None:
    text = RECIPE.replace("      name: mdpo_linear\n", "      name: mdpo_linear\n      weights: [1, -1]\n")
    message = refused(folder, text)
    assert "methods.1.loss.weights: 2 weights for 4 responses; expected 4, best first" in message
    load(folder, text.replace("[1, -1]", "[2, 1, -1, -2]"))


def test_shipped_accelerate_configurations_are_fine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda name: name)  # DeepSpeed is not installed here
    shipped = sorted((Path(__file__).parents[2] / "recipes" / "accelerate").glob("*.yaml"))
    assert [p.stem for p in shipped] == ["ddp", "fsdp", "zero3"]
    for path in shipped:
        load(folder, RECIPE + f"runtime: {{launch: {{accelerate: {{config: {path}}}}}}}\n")


def find_only(monkeypatch: pytest.MonkeyPatch, spec: ModuleSpec | None) -> None:
    """Whatever package is looked for, this is what is found of it."""
    for name in ("wandb", "mlflow", "bitsandbytes"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(errors, "find_spec", lambda _name: spec)


def test_reporters_are_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_only(monkeypatch, None)
    message = refused_runtime(folder, "{report_to: wandb}")
    assert "needs the package wandb, which is not installed: pip install wandb" in message
    find_only(monkeypatch, ModuleSpec("mlflow", None))
    assert "pip install mlflow" in refused_runtime(folder, "{report_to: mlflow}"), "a folder of that name is no package"
    assert "expected 'tensorboard', 'trackio', 'wandb' or 'mlflow'" in refused_runtime(
        folder, "{report_to: [tensorbord]}"
    )


def test_bits_need_bitsandbytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_only(monkeypatch, None)
    message = refused(folder, edited("lora: {r: 8}", "lora: {r: 8, bits: 4}"))
    assert "needs the package bitsandbytes, which is not installed: pip install 'preference-harness[qlora]'" in message
    assert "training.lora.bits: expected 4 or 8, got 3" in refused(folder, edited("{r: 8}", "{r: 8, bits: 3}"))
