"""What a short training in half precision has learnt is still there in the policy that is deployed."""

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from harness.losses.mdpo_linear import MdpoLinear
from harness.models import load as models
from harness.recipe.policy import Policy
from harness.recipe.training import Training
from harness.recipe.trl_loss import TrlLoss
from harness.training.ranked import trainer
from harness.training.ranked.trainer import train_policy
from harness.training.trl import dpo
from harness.training.trl.dpo import train_with_trl
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


def trained(base: Path, folder: Path, *, trl: bool = False, **fields: Any) -> Path:
    """The folder of a short training in bfloat16."""
    data, settings = examples(8), {"batch_size": 4, "lora": LORA, "warmup_ratio": 0.0, "epochs": 2, **LENGTHS}
    training = Training.model_validate(settings | fields)
    policy = Policy(model=str(base), dtype="bfloat16")
    reference = reference_of(base, data, "bfloat16" if training.lora else "float32")
    options: dict[str, Any] = {"seed": 3, "micro_batch_size": 4, "advance": lambda _n: None}
    folder.mkdir()
    if trl:
        train_with_trl(policy, data, TrlLoss.model_validate({"name": "sigmoid"}), training, folder=folder, **options)
        return folder
    train_policy(policy, data, reference, MdpoLinear(beta=1.0), training, folder=folder, **options)
    return folder


def load(folder: Path, base: Path, dtype: models.Dtype) -> Any:
    if (folder / "adapter_config.json").exists():
        return models.with_adapter(models.load_causal_lm(str(base), dtype=dtype), folder)
    return models.load_causal_lm(str(folder), dtype=dtype)


def change(policy: Any, base: Path, dtype: models.Dtype) -> torch.Tensor:
    """That of a policy's log-probabilities over the base's, on random texts."""
    ids = torch.randint(0, 256, (48, 80), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pair = [
            model(input_ids=ids).logits.double().log_softmax(-1)
            for model in (policy, models.load_causal_lm(str(base), dtype=dtype))
        ]
    return pair[0] - pair[1]


def kept(run: Path, base: Path, policy: Any = None) -> float:
    """How much of the change that was learnt is in that of the deployed policy: the slope of the one over the other.
    `policy`: measured instead of the deployed one, and as in training."""
    exact = run / "trained" if (run / "trained").is_dir() else run / "checkpoint"
    learnt = change(load(exact, base, "float32"), base, "float32")
    with torch.autocast("cpu", torch.bfloat16, enabled=policy is not None):
        deployed = change(policy or load(run / "checkpoint", base, "bfloat16"), base, "bfloat16")
    assert learnt.abs().max() > 0
    return float((deployed * learnt).sum() / learnt.square().sum())


@pytest.mark.parametrize(
    "architecture", ["qwen2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("llama", "gpt2"))]
)
def test_of_adapters(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = model_in(tmp_path / "base", architecture)
    run = trained(base, tmp_path / "run", learning_rate=3e-4)
    assert kept(run, base) == pytest.approx(1, abs=0.15)
    monkeypatch.setattr(models, "round_once", lambda model: model)
    assert kept(run, base) < 0.75, "PEFT's own forward pass loses nothing here: the test shows nothing"


@pytest.mark.parametrize("module", [trainer, dpo])
def test_training_computes_with_what_is_deployed(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models_trained: list[Any] = []
    save = module.save_result
    monkeypatch.setattr(
        module, "save_result", lambda model, *rest, **more: models_trained.append(model) or save(model, *rest, **more)
    )
    base = model_in(tmp_path / "base", "qwen2")
    run = trained(base, tmp_path / "run", trl=module is dpo, learning_rate=3e-4)
    assert kept(run, base, models_trained[0].eval()) == pytest.approx(1, abs=0.15)


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
