"""Adapters: whole, for the base that they name, and without code of their own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import ModelError
from harness.models import load as models
from tests.models.checkpoints.edits import Weights, drop, edit_json, edit_weights
from tests.tiny import tiny_causal_lm

WEIGHTS = "adapter_model.safetensors"


def adapter(base: Path, folder: Path, classes: int | None = None, **options: Any) -> Path:
    """A saved LoRA adapter with random weights, and the base's tokenizer."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    options = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False, **options}
    if classes is None:
        model = AutoModelForCausalLM.from_pretrained(base)
        options |= {"task_type": "CAUSAL_LM"}
    else:
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=classes)
        options |= {"task_type": "SEQ_CLS", "modules_to_save": ["score"]}
    get_peft_model(model, LoraConfig(**options)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "base"))


def refused(folder: Path, message: str, load: Callable[[str], object] = models.load_causal_lm) -> None:
    for action in (models.check, load):
        with pytest.raises(ModelError, match=message) as raised:
            action(str(folder))
        assert "\n" not in str(raised.value)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.arange(5)[None]).logits.float()


@pytest.mark.parametrize(
    "options",
    [{}, {"use_dora": True}, {"bias": "lora_only"}, {"modules_to_save": ["lm_head"]}, {"trainable_token_indices": [1]}],
)
def test_an_adapter_is_loaded_as_peft_saved_it(base: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = adapter(base, tmp_path / "adapter", **options)
    models.check(str(folder))
    expected = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder))
    assert torch.allclose(logits(models.load_causal_lm(str(folder), dtype="float32")), expected, atol=1e-6)


def unexpected(weights: Weights) -> Weights:
    return {**weights, "base_model.model.model.layers.7.mlp.up_proj.lora_A.weight": torch.zeros(4, 32)}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            drop("layers.0.self_attn.q_proj.lora_B"),
            r"1 missing \(base_model.*layers.0.self_attn.q_proj.lora_B.weight\)",
        ),
        (unexpected, r"1 unexpected \(base_model.*layers.7"),
        (lambda w: {name: weight[:, :2].clone() for name, weight in w.items()}, "28 of another shape"),
    ],
)
def test_other_adapter_weights_are_named(
    base: Path, tmp_path: Path, edit: Callable[[Weights], Weights], message: str
) -> None:
    folder = adapter(base, tmp_path / "adapter")
    edit_weights(folder, edit, WEIGHTS)
    refused(folder, message)


def test_rank_and_base_must_match(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "adapter")
    edit_json(folder, "adapter_config.json", r=8)
    refused(folder, "28 of another shape .*instead of")
    larger = tiny_causal_lm(tmp_path / "larger", hidden=64)
    edit_json(folder, "adapter_config.json", r=4, base_model_name_or_path=str(larger))
    refused(folder, "of another shape")


def test_a_reward_adapter_needs_its_head(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "adapter", classes=3)
    assert models.check_classifier(str(folder)) == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert models.load_sequence_classifier(str(folder)).config.num_labels == 3
    edit_weights(folder, drop("score"), WEIGHTS)
    for action in (models.check_classifier, models.load_sequence_classifier):
        with pytest.raises(ModelError, match=r"1 missing \(.*score.weight\)"):
            action(str(folder))


def test_the_base_must_be_whole(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "adapter")
    edit_weights(base, drop("model.norm"))
    refused(folder, r"base'.* 1 missing \(model.norm.weight\)")
    shutil.rmtree(base)
    refused(folder, "there is no base model in .*base")
    edit_json(folder, "adapter_config.json", base_model_name_or_path=str(folder))
    refused(folder, "is for the adapter .*; expected one for a whole model")


def test_pickled_adapters_and_code_are_refused(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "adapter")
    edit_json(folder, "adapter_config.json", auto_mapping={"base_model_class": "Popen", "parent_library": "subprocess"})
    refused(folder, "auto_mapping names code, 'subprocess'")
    edit_json(folder, "adapter_config.json", auto_mapping=None, megatron_config={"a": 1}, megatron_core="antigravity")
    refused(folder, "megatron_core names code")
    edit_json(folder, "adapter_config.json", megatron_config=None, megatron_core=None, peft_type="XLORA")
    refused(folder, "X-LoRA")
    edit_json(folder, "adapter_config.json", peft_type="LORA", r=10**9)
    refused(folder, "another shape|can't be loaded")
    edit_json(folder, "adapter_config.json", peft_type="NOSUCH", r=4)
    refused(folder, "can't be loaded")
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    refused(folder, r"no \*.safetensors file \(adapter_model.bin is a pickle")


def test_the_mapping_that_peft_itself_writes_is_fine(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "adapter")
    mapping = {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers.models.llama.modeling_llama"}
    edit_json(folder, "adapter_config.json", auto_mapping=mapping)
    models.check(str(folder))
    models.load_causal_lm(str(folder))


def test_an_adapters_identity_holds_its_base(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "adapter")
    first = models.identity(str(folder))
    assert first["base"] == models.identity(str(base))
    edit_weights(base, lambda w: {name: weight + 1 for name, weight in w.items()})
    assert models.identity(str(folder)) != first
    edit_json(folder, "adapter_config.json", base_model_name_or_path="owner/name", revision="abc")
    assert models.identity(str(folder))["base"] == {"model": "owner/name", "revision": "abc"}
    built_in = "/elsewhere/models/smollm2-135m-instruct-b179c9523d0e"
    edit_json(folder, "adapter_config.json", base_model_name_or_path=built_in)
    assert models.identity(str(folder))["base"] == models.identity("smollm2-135m-instruct")


def test_training_refuses_adapters_with_a_hint(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "adapter")
    for action in (models.refuse_adapter, models.check_trainable):
        with pytest.raises(ModelError, match="merge it into its base first"):
            action(str(folder))
        action(str(base))


def test_a_copy_of_the_bases_configuration_makes_no_model(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "adapter")
    shutil.copy(base / "config.json", folder)
    models.check(str(folder))
    models.load_causal_lm(str(folder))
    assert models.identity(str(folder))["base"] == models.identity(str(base))


def test_json_of_an_adapter_is_read_strictly(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config)[:-1] + ', "r": 5}')
    refused(folder, "'r' occurs twice")
