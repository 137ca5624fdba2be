"""Answers of the newest families: greedy ones in batches are those that transformers writes one by one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.models import batching
from harness.models import load as models
from harness.models.batching import BatchLimits, batch_limits
from tests.models.decode.greedy import assert_as_transformers
from tests.models.families.zoo import MULTIMODAL, by_family, tiny, tiny_multimodal
from tests.tiny import tiny_tokenizer

PROMPTS = [[(7 * i + 3) % 250 for i in range(n)] for n in (40, 3, 22, 60)]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return models.load_tokenizer(str(tiny_model))


@by_family
def test_writes_what_transformers_writes(family: str, tokenizer: Any) -> None:
    assert_as_transformers(tiny(family), tokenizer, PROMPTS)


@pytest.mark.parametrize("kind", MULTIMODAL)
def test_writes_what_transformers_writes_with_a_vision_part(kind: str, tokenizer: Any) -> None:
    assert_as_transformers(tiny_multimodal(kind), tokenizer, PROMPTS)


@pytest.mark.parametrize(
    ("family", "token"),
    [
        # Keys and values of 4 bytes in 2 heads, 8 and 16 wide, of the four layers that don't take another's.
        ("gemma4", 2 * 4 * 2 * (8 + 16 + 8 + 16)),
        # Of one layer in four; the others keep a state.
        ("qwen3_5", 2 * 4 * 2 * 8),
        # What is kept is compressed: 16 numbers, and 4 with the position.
        ("deepseek_v3", 2 * 4 * (16 + 4)),
    ],
)
def test_room_in_a_batch_is_that_of_what_the_family_keeps(family: str, token: int) -> None:
    model = tiny(family)
    weights = sum(p.numel() * 4 for p in model.parameters())
    limits = batch_limits(model, None)
    assert limits.padding == weights // token
    assert limits.tokens > 10_000


def test_states_take_room_whatever_the_length(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = tiny("qwen3_5")
    states = 3 * (4 * 8 * 8 + 4 * 64) * 4  # three layers: a matrix per head, and the last four inputs of a convolution
    weights = sum(p.numel() * 4 for p in model.parameters())
    limit = tmp_path / "memory.max"
    limit.write_text(f"{weights + 4 * 2 * 10 * states}\n")  # a quarter is for a batch, half of it for states
    monkeypatch.setattr(batching, "CGROUP_LIMIT", limit)
    assert batch_limits(model, None).sequences == 10
    assert isinstance(batch_limits(model, 5), BatchLimits)
    assert batch_limits(model, 5).sequences == 5


@pytest.mark.parametrize("kind", MULTIMODAL)
def test_a_published_multimodal_checkpoint_loads_as_a_language_model(kind: str, tmp_path: Path) -> None:
    published = tiny_multimodal(kind)
    published.save_pretrained(tmp_path)
    tiny_tokenizer(tmp_path)
    models.check_trainable(str(tmp_path))
    loaded = models.load_causal_lm(str(tmp_path), dtype="float32")
    ids = torch.tensor([PROMPTS[0]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=ids).logits, published(input_ids=ids).logits, rtol=0, atol=1e-4)
