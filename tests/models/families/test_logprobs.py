"""Log-probabilities of the newest families: those of every response alone, whatever rows and batches it is in."""

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.logprobs.head import response_logps
from harness.logprobs.layout import shared_prefix_obstacle
from harness.training.ranked.batch import Group, collate, lengths_of
from tests.models.families.zoo import FAMILIES, MULTIMODAL, by_family, tiny, tiny_multimodal
from tests.training.models import random_group

GROUPS = [
    random_group(1, prompt=30, lengths=(5, 9, 1, 7)),
    random_group(2, prompt=4, lengths=(3, 12)),
    random_group(3, prompt=1, lengths=(2, 2, 6)),
    random_group(4, prompt=50, lengths=(20, 24)),
]
"""Rows of 3 to 74 tokens: some are beyond the windows (16), the chunks (16) and the rotary factors' change (32)."""
LENGTHS = torch.tensor([len(r) for group in GROUPS for r in group.responses])
WEIGHTS = torch.linspace(-1, 1, len(LENGTHS))
STATES = {"conv", "linear_attention", "chunked_attention", "indexed_attention", "hybrid"}


def alone(model: Any, groups: list[Group]) -> Tensor:
    """The summed log-probability of each response, from the model's own logits of one row without padding."""
    logps = []
    for group in groups:
        for response in group.responses:
            start = len(group.prompt)
            rows = model(input_ids=torch.tensor([[*group.prompt, *response]]), use_cache=False).logits[0]
            picked = rows.log_softmax(-1)[range(start - 1, start - 1 + len(response)), response]
            logps.append(picked.sum())
    return torch.stack(logps)


def gradients(model: Any, logps: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (logps * WEIGHTS).sum().backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def assert_as_alone(model: Any, *, shared: bool) -> None:
    expected = alone(model, GROUPS)
    wanted = gradients(model, expected)
    logps, lengths = response_logps(model, collate(GROUPS, pad_id=258, shared=shared))
    assert lengths.tolist() == LENGTHS.tolist()
    assert ((logps - expected).abs() / LENGTHS).max() < 1e-4
    for name, gradient in gradients(model, logps).items():
        scale = max(1.0, wanted[name].abs().max().item())
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-4 * scale, msg=name)


@by_family
def test_a_response_in_a_padded_batch_counts_as_alone(family: str) -> None:
    """Value and gradient, beside rows of other lengths."""
    assert_as_alone(tiny(family), shared=False)


@by_family
def test_a_response_in_a_shared_row_counts_as_alone(family: str) -> None:
    """Or the family says why it gets a row per response."""
    model = tiny(family)
    obstacle = shared_prefix_obstacle(model, [lengths_of(group) for group in GROUPS])
    layers = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if layers & STATES:
        assert obstacle is not None
        assert obstacle.startswith("it has layers of type")
    elif family == "phi4-long":
        assert obstacle == "its rotary factors depend on the length of the prompt with its response"
    else:
        assert obstacle is None
        assert_as_alone(model, shared=True)


@pytest.mark.parametrize("family", ["gemma4", "smollm3", "glm4-lite", "qwen3_5"])
def test_a_long_batch_mate_changes_nothing(family: str) -> None:
    model = tiny(family)
    short, long = random_group(5, prompt=7, lengths=(4, 3)), random_group(6, prompt=150, lengths=(40, 60))
    with torch.no_grad():
        beside, _ = response_logps(model, collate([short, long], 258, shared=False))
        by_itself, _ = response_logps(model, collate([short], 258, shared=False))
    torch.testing.assert_close(beside[:2], by_itself, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", MULTIMODAL)
def test_the_text_part_of_a_multimodal_model(kind: str) -> None:
    model = tiny_multimodal(kind)
    with torch.no_grad():
        logps, _ = response_logps(model, collate(GROUPS, 258, shared=False))
        assert ((logps - alone(model, GROUPS)).abs() / LENGTHS).max() < 1e-4


def test_the_families_have_what_sets_them_apart() -> None:
    """Otherwise the tests above would try ordinary models under other names."""
    gemma = tiny("gemma4").config
    assert [layer.head_dim for layer in gemma.per_layer_config] == [8, 16] * 3
    assert gemma.num_kv_shared_layers == 2
    types = {name: set(tiny(name).config.layer_types) for name in ("qwen3_5", "gpt_oss", "granite4", "llama4")}
    assert types["qwen3_5"] == types["granite4"] == {"linear_attention", "full_attention"}
    assert types["gpt_oss"] == {"sliding_attention", "full_attention"}
    assert types["llama4"] == {"chunked_attention", "full_attention"}
    assert len(FAMILIES) > 20


@by_family
def test_long_rows_need_no_mask(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers makes a mask of T x T from that of the padding."""
    monkeypatch.setattr("harness.logprobs.inputs.WIDEST_MASK", 8)
    model = tiny(family)
    with torch.no_grad():
        logps, _ = response_logps(model, collate(GROUPS, 258, shared=False))
        assert ((logps - alone(model, GROUPS)).abs() / LENGTHS).max() < 1e-4
