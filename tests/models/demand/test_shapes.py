"""How large models are, as far as this machine can tell without a network."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from harness.models.demand.shapes import models_of_unknown_size, shape_of, size_in_name


def test_parameters_and_widths_are_those_of_the_weights(tiny_model: Path) -> None:
    model, shape = AutoModelForCausalLM.from_pretrained(tiny_model), shape_of(str(tiny_model))
    assert shape is not None
    assert shape.parameters == shape.active == sum(p.numel() for p in model.parameters())
    layer = model.model.layers[0]
    linears = [*layer.self_attn.children(), *layer.mlp.children()]
    adapted = sum(m.in_features + m.out_features for m in linears if hasattr(m, "in_features"))
    assert shape.adapted == adapted * len(model.model.layers)
    assert shape.queries == layer.self_attn.q_proj.out_features
    assert shape.keys == layer.self_attn.k_proj.out_features
    assert shape.embeddings == model.get_input_embeddings().weight.numel()


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("smollm2-135m-instruct", 134_515_008),
        ("mistralai/Mistral-7B-Instruct-v0.2", 7_241_732_096),
        ("owner/Some-Model-1.5B-Instruct", 1.5e9),
        ("owner/some-8b", 8e9),
        ("owner/model", None),
        ("owner/mixtral-8x7b", None),  # its experts share the attention: neither 7B nor 56B
        ("owner/model-4bit", None),
    ],
)
def test_or_what_a_table_or_the_name_says(name: str, count: float | None) -> None:
    shape = shape_of(name)
    assert (shape.parameters if shape else None) == count


def test_a_name_s_typical_widths_are_about_those_of_known_models() -> None:
    for name in ("mistralai/Mistral-7B-Instruct-v0.2", "meta-llama/Llama-3.1-8B-Instruct"):
        known, guessed = shape_of(name), shape_of(f"owner/x-{name.split('-')[-3 if 'Mistral' in name else -2]}")
        assert known
        assert guessed
        assert guessed.hidden == pytest.approx(known.hidden, rel=0.1)
        assert guessed.layers == pytest.approx(known.layers, rel=0.1)


MIXTURE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
MIXTURE |= {"intermediate_size": 128, "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 1000}


def test_of_a_mixture_a_token_sees_a_part(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mixtral", **MIXTURE}))
    shape = shape_of(str(tmp_path))
    assert shape
    experts = 2 * 3 * 64 * 128
    assert shape.parameters - shape.active == (8 - 2) * experts
    assert shape.inner == 2 * 128


def test_a_damaged_file_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    assert shape_of(str(tmp_path)) is None
    assert models_of_unknown_size([]) == []


def test_the_last_of_several_sizes_counts() -> None:
    assert size_in_name("distilled-70B-to-8B") == 8e9


def test_a_mixture_by_its_name() -> None:
    shape = shape_of("owner/Some-30B-A3B-Instruct")
    assert shape is not None
    assert (shape.parameters, shape.active) == (30e9, 3e9)
    mixtures = ["owner/Scout-17B-16E-Instruct", "owner/OLMoE-1B-7B", "owner/8x7B", "openai/gpt-oss-20b"]
    assert [shape_of(name) for name in mixtures] == [None] * 4
