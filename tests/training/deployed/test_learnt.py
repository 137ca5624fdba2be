"""What a short training in half precision has learnt is still there in the policy that is deployed."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.losses.mdpo_linear import MdpoLinear
from harness.models import load as models
from harness.recipe.recipe import Policy
from harness.recipe.training import Training
from harness.training.ranked.trainer import train_policy
from tests.tiny import tiny_tokenizer
from tests.training.models import examples, tiny
from tests.training.runs import LENGTHS, LORA, reference_of


def model_in(folder: Path, architecture: str) -> Path:
    """A model whose weights and outputs are large beside what is learnt, as those of real models are. Qwen's attention
    has biases, and GPT-2's linear layers are Conv1D."""
    sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "initializer_range": 0.15}
    model = tiny(architecture, **sizes)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=2.0)
    model.bfloat16().save_pretrained(folder)
    tiny_tokenizer(folder)
    return folder


def trained(base: Path, folder: Path, **fields: Any) -> Path:
    """The folder of a short training in bfloat16."""
    data, settings = examples(8), {"batch_size": 4, "lora": LORA, "warmup_ratio": 0.0, "epochs": 2, **LENGTHS}
    training = Training.model_validate(settings | fields)
    policy = Policy(model=str(base), dtype="bfloat16")
    reference = reference_of(base, data, "bfloat16" if training.lora else "float32")
    options: dict[str, Any] = {"seed": 3, "micro_batch_size": 4, "advance": lambda _n: None}
    folder.mkdir()
    train_policy(policy, data, reference, MdpoLinear(beta=1.0), training, folder=folder, **options)
    return folder


def load(folder: Path, base: Path, dtype: models.Dtype) -> Any:
    if (folder / "adapter_config.json").exists():
        return models.with_adapter(models.load_causal_lm(str(base), dtype=dtype), folder)
    return models.load_causal_lm(str(folder), dtype=dtype)


def kept(run: Path, base: Path) -> float:
    """How much of the change in log-probabilities that was learnt is in those of the deployed policy: the slope of the
    one over the other, over random texts."""
    ids = torch.randint(0, 256, (48, 80), generator=torch.Generator().manual_seed(0))
    exact = run / "trained" if (run / "trained").is_dir() else run / "checkpoint"
    changes = []
    for folder, dtype in ((run / "checkpoint", "bfloat16"), (exact, "float32")):
        policies = load(folder, base, dtype), models.load_causal_lm(str(base), dtype=dtype)  # type: ignore[arg-type]
        with torch.no_grad():
            ours, reference = (model(input_ids=ids).logits.double().log_softmax(-1) for model in policies)
        changes.append(ours - reference)
    assert changes[1].abs().max() > 0
    return float((changes[0] * changes[1]).sum() / changes[1].square().sum())


@pytest.mark.parametrize("architecture", [pytest.param("llama", marks=pytest.mark.slow), "qwen2", "gpt2"])
def test_of_adapters(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = model_in(tmp_path / "base", architecture)
    run = trained(base, tmp_path / "run", learning_rate=3e-4)
    assert kept(run, base) == pytest.approx(1, abs=0.15)
    monkeypatch.setattr(models, "round_once", lambda model: model)
    assert kept(run, base) < 0.75, "PEFT's own forward pass loses nothing here: the test shows nothing"


@pytest.mark.parametrize("fields", [{"merge": True, "learning_rate": 3e-4}, {"lora": False, "learning_rate": 1e-5}])
def test_of_whole_models(tmp_path: Path, fields: dict[str, Any]) -> None:
    base = model_in(tmp_path / "base", "qwen2")
    run = trained(base, tmp_path / "run", **fields)
    assert kept(run, base) == pytest.approx(1, abs=0.15)
    exact = load(run / "trained", base, "float32")
    nearest = (exact.merge_and_unload() if "merge" in fields else exact).bfloat16()
    shutil.rmtree(run / "checkpoint")
    nearest.save_pretrained(run / "checkpoint")
    assert kept(run, base) < 0.75, "the nearest values lose nothing here: the test shows nothing"
