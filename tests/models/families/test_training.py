"""The newest families train, with adapters and in full, and what was trained is what is loaded again."""

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.logprobs.score import score_rows
from harness.models import load as models
from harness.models.config import layers
from harness.training.policy import disable_dropout
from harness.types import RankedExample
from tests.models.families.zoo import FAMILIES, MULTIMODAL, tiny, tiny_multimodal
from tests.tiny import tiny_tokenizer
from tests.training.models import examples
from tests.training.runs import LENGTHS, LORA, train

DATA = examples(2, responses=3)


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tiny_tokenizer(folder)
    models.check_trainable(str(folder))
    return folder


def logps(folder: Path, data: list[RankedExample]) -> list[float]:
    model, tokenizer = models.load_causal_lm(str(folder), dtype="float32"), models.load_tokenizer(str(folder))
    rows = [(e.messages, r.text) for e in data for r in e.responses]
    scored = score_rows(model, tokenizer, rows, **LENGTHS, batch_size=4, advance=lambda _: None)
    return [score.logp for score in scored]


def assert_trains(base: Path, folder: Path, lora: Any) -> None:
    """Two steps: the first starts at the reference, the second doesn't, and the checkpoint has what was trained."""
    _, steps = train(base, DATA, folder, lora=lora, batch_size=2, epochs=2, learning_rate=1e-3)
    assert len(steps) == 2
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert steps[0]["margin_mean"] == pytest.approx(0, abs=1e-3)
    assert steps[0]["grad_norm"] > 1e-3
    assert abs(steps[1]["margin_mean"]) > 1e-4
    before, after = logps(base, DATA), logps(folder / "checkpoint", DATA)
    moved = [a - b for a, b in zip(after, before, strict=True)]
    assert max(map(abs, moved)) > 1e-4
    margins = [moved[i] - moved[i + 2] for i in range(0, len(moved), 3)]  # best over worst
    assert sum(margins) > 0


@pytest.mark.parametrize("family", ["gemma4"])
def test_adapters_of_a_family_train(family: str, tmp_path: Path) -> None:
    assert_trains(saved(tiny(family), tmp_path / "base"), tmp_path / "run", LORA)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_families_train(family: str, lora: Any, tmp_path: Path) -> None:
    assert_trains(saved(tiny(family), tmp_path / "base"), tmp_path / "run", lora)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize("kind", MULTIMODAL)
def test_multimodal_models_train_on_text(kind: str, lora: Any, tmp_path: Path) -> None:
    assert_trains(saved(tiny_multimodal(kind), tmp_path / "base"), tmp_path / "run", lora)


def test_routers_get_no_noise_in_training() -> None:
    """As dropout, it would make the policy differ from its own reference."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 259, "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
    torch.manual_seed(0)
    config = AutoConfig.for_model("mixtral", **sizes, **heads, router_jitter_noise=0.5)
    model = AutoModelForCausalLM.from_config(config).train()
    disable_dropout(model)
    ids = torch.arange(20)[None]
    torch.testing.assert_close(model(ids).logits, model.eval()(ids).logits)


def test_no_loss_balances_experts_and_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 259, "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
    losses = []
    for coefficient in (0.0, 100.0):
        torch.manual_seed(0)
        options = {"output_router_logits": True, "router_aux_loss_coef": coefficient}
        config = AutoConfig.for_model("mixtral", **sizes, **heads, **options)
        base = saved(AutoModelForCausalLM.from_config(config), tmp_path / f"base{coefficient}")
        with caplog.at_level(logging.INFO, logger="harness.training"):
            _, steps = train(base, DATA, tmp_path / f"run{coefficient}", lora=None, batch_size=2, epochs=2)
        assert ("no auxiliary loss balances its experts" in caplog.text) == (coefficient > 0)
        losses.append([(step["loss"], step["grad_norm"]) for step in steps])
    assert losses[0] == losses[1]


def test_values_by_layer_are_read_from_the_layers() -> None:
    gemma = tiny("gemma4")
    assert [layer.head_dim for layer in layers(gemma)] == [8, 16] * 3
    with pytest.raises(RuntimeError, match="head_dim"):
        _ = gemma.config.head_dim
