"""Weights that are missing, unexpected or of another shape are an error, before and while a model is loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.errors import ModelError
from harness.models import load as models
from harness.models.checkpoints.complete import Use
from tests.models.checkpoints.edits import Weights, drop, edit_json, edit_weights, into_shards


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def classifier(model: Path, folder: Path, labels: int = 1) -> Path:
    from transformers import AutoModelForSequenceClassification

    shutil.copytree(model, folder)
    AutoModelForSequenceClassification.from_pretrained(model, num_labels=labels).save_pretrained(folder)
    return folder


def refused(model: Path, message: str, use: Use = "language model") -> None:
    """The model is refused in one line both by `check` and on loading."""
    load = models.load_causal_lm if use == "language model" else models.load_sequence_classifier
    for action in (lambda: models.check(str(model), use=use), lambda: load(str(model))):
        with pytest.raises(ModelError, match=message) as raised:
            action()
        assert "\n" not in str(raised.value)


def reshaped(weights: Weights) -> Weights:
    return {**weights, "model.layers.1.mlp.up_proj.weight": torch.zeros(4, 4)}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (drop("layers.1."), r"9 missing \(model.layers.1.input_layernorm.weight, .*, …\)"),
        (drop("model.norm"), r"1 missing \(model.norm.weight\)"),
        (drop("embed_tokens"), "missing .*embed_tokens"),
        (lambda w: {**w, "model.layers.2.mlp.up_proj.weight": torch.zeros(4, 4)}, r"1 unexpected \(model.layers.2.mlp"),
        (lambda w: {**w, "v_head.summary.weight": torch.zeros(1, 4)}, r"1 unexpected \(v_head.summary.weight\)"),
        (reshaped, r"1 of another shape \(model.layers.1.mlp.up_proj.weight: \[4, 4\] instead of \[64, 32\]\)"),
        (lambda w: {f"other.{name}": weight for name, weight in w.items()}, "missing .* unexpected"),
    ],
)
def test_other_weights_are_counted_and_named(model: Path, edit: Callable[[Weights], Weights], message: str) -> None:
    edit_weights(model, edit)
    refused(model, message)


def test_the_configuration_may_be_that_of_another_model(model: Path) -> None:
    edit_json(model, "config.json", num_hidden_layers=1)
    refused(model, r"9 unexpected \(model.layers.1.")
    edit_json(model, "config.json", num_hidden_layers=3)
    refused(model, r"9 missing \(model.layers.2.")
    edit_json(model, "config.json", num_hidden_layers=2, hidden_size=64)
    refused(model, "20 of another shape")


def test_shards_and_their_index(model: Path) -> None:
    into_shards(model, ["a-00001.safetensors", "deeper/a-00002.safetensors"])
    models.check(str(model))
    models.load_causal_lm(str(model))
    (model / "deeper" / "a-00002.safetensors").unlink()
    refused(model, r"names 1 of 2 files that are missing \(a-00002.safetensors\)")


def test_what_transformers_ignores_is_no_error(model: Path) -> None:
    edit_weights(model, lambda w: {**w, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)})
    models.check(str(model))
    models.load_causal_lm(str(model))


def test_a_tied_head_may_be_absent_or_present(model: Path) -> None:
    edit_weights(model, lambda w: {**w, "lm_head.weight": w["model.embed_tokens.weight"].clone()})
    models.check(str(model))
    models.load_causal_lm(str(model))
    edit_json(model, "config.json", tie_word_embeddings=False)
    models.check(str(model))
    edit_weights(model, drop("lm_head"))
    refused(model, r"1 missing \(lm_head.weight\)")


def test_a_reward_model_without_its_head_is_refused(model: Path, tmp_path: Path) -> None:
    reward = classifier(model, tmp_path / "reward")
    assert models.check_classifier(str(reward)) == {0: "LABEL_0"}
    models.load_sequence_classifier(str(reward))
    edit_weights(reward, drop("score"))
    refused(reward, r"1 missing \(score.weight\)", "classifier")
    with pytest.raises(ModelError, match=r"score\.weight"):
        models.check_classifier(str(reward))


def test_a_new_head_may_be_random_but_nothing_else(model: Path) -> None:
    models.check(str(model), use="new classifier")
    assert models.load_sequence_classifier(str(model), num_labels=1).score.weight.shape == (1, 32)
    edit_weights(model, lambda w: {**w, "lm_head.weight": w["model.embed_tokens.weight"].clone()})
    models.load_sequence_classifier(str(model), num_labels=1)
    edit_weights(model, drop("layers.0.mlp"))
    for action in (
        lambda: models.check(str(model), use="new classifier"),
        lambda: models.load_sequence_classifier(str(model), num_labels=1),
    ):
        with pytest.raises(ModelError, match="3 missing"):
            action()


def test_a_reward_model_is_no_policy(model: Path, tmp_path: Path) -> None:
    refused(classifier(model, tmp_path / "reward"), r"1 unexpected \(score.weight\)")


def test_what_is_fine_stays_fine_only_until_a_file_changes(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.models.checkpoints.stamps.SETTLED", -1.0)
    models.check(str(model))
    models.check(str(model))
    edit_weights(model, drop("model.norm"))
    refused(model, "1 missing")


def test_other_architectures_pass_as_they_were_saved(tmp_path: Path, tiny_model: Path) -> None:
    """GPT-2 has buffers and another prefix, Mixtral's experts are stored one by one and joined on loading."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, MixtralConfig, Qwen2Config

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    size = len(AutoTokenizer.from_pretrained(tiny_model))
    configs = [
        GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=64),
        MixtralConfig(vocab_size=size, num_key_value_heads=2, num_local_experts=4, **small),
        Qwen2Config(vocab_size=size, num_key_value_heads=2, **small),  # max_window_layers stays 28
    ]
    for config in configs:
        folder = tmp_path / config.model_type
        shutil.copytree(tiny_model, folder)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        models.check(str(folder))
        models.load_causal_lm(str(folder))
        stored = json.dumps(sorted(models.identity(str(folder))))
        assert "sha256" in stored


@pytest.mark.slow
def test_a_model_that_was_quantised_by_its_authors_loads(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    packed = tmp_path / "packed"
    shutil.copytree(model, packed)
    (packed / "model.safetensors").unlink()
    models.load_causal_lm(str(model), bits=4).save_pretrained(packed)
    models.check(str(packed))
    models.load_causal_lm(str(packed))
    edit_weights(packed, drop("layers.1.mlp.up_proj", "model.norm"))
    refused(packed, r"2 missing \(model.layers.1.mlp.up_proj.weight, model.norm.weight\)")


def test_out_of_memory_while_weights_load_is_one_line(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    for error in (
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\nto"),
        OSError("x"),
    ):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
        with pytest.raises(ModelError, match="can't be loaded: x" if isinstance(error, OSError) else "fit in memory"):
            models.load_causal_lm(str(model))
