"""On a CPU: what the attention for accelerators sees is what the dense mask lets it see."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.logprobs.accelerated import key_lists, mask_function
from harness.logprobs.rows import dense_mask
from harness.logprobs.segments import segments_of_mask
from tests.logprobs.test_attention import random_batch


def expected(batch: dict[str, Any], window: int | None) -> Tensor:
    """bool [R, T, T]."""
    mask, positions = dense_mask(batch["segments"])[:, 0], batch["position_ids"]
    return mask if window is None else mask & (positions[:, :, None] - positions[:, None, :] < window)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("seed", range(5))
def test_flex_attention_sees_the_same_pairs(seed: int, window: int | None) -> None:
    from torch.nn.attention.flex_attention import create_mask

    batch = random_batch(random.Random(seed))
    count, width = batch["segments"].shape
    visible = mask_function(batch["segments"], window)
    assert torch.equal(create_mask(visible, count, 1, width, width, device="cpu")[:, 0], expected(batch, window))


@pytest.mark.parametrize("window", [None, 3])
def test_a_block_mask_gives_the_same_attention(window: int | None) -> None:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    batch = random_batch(random.Random(7))
    count, width = batch["segments"].shape
    torch.manual_seed(0)
    query, key, value = (torch.randn(count, 2, width, 8) for _ in range(3))
    visible = mask_function(batch["segments"], window)
    blocks = create_block_mask(visible, count, None, width, width, device="cpu", BLOCK_SIZE=16)
    plain = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=expected(batch, window)[:, None]
    )
    torch.testing.assert_close(flex_attention(query, key, value, block_mask=blocks), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("seed", range(5))
def test_key_lists_hold_the_same_pairs(seed: int, window: int | None) -> None:
    batch = random_batch(random.Random(seed))
    count, width = batch["segments"].shape
    lists = key_lists(segments_of_mask(batch["segments"][:, None, None]), width, torch.device("cpu"))
    assert lists.query_starts.dtype == lists.key_starts.dtype == torch.int32
    seen = torch.zeros(count * width, count * width, dtype=torch.bool)
    for k in range(len(lists.query_starts) - 1):
        queries = lists.queries[lists.query_starts[k] : lists.query_starts[k + 1]]
        keys = lists.keys[lists.key_starts[k] : lists.key_starts[k + 1]]
        assert len(queries) <= lists.most_queries
        assert len(keys) <= lists.most_keys
        for i, query in enumerate(queries):  # causal, aligned at the end, as FlashAttention does
            last = len(keys) - len(queries) + i
            seen[query, keys[0 if window is None else max(0, last - window + 1) : last + 1]] = True
    whole = torch.block_diag(*expected(batch, window).int()).bool()
    padding = (batch["segments"] < 0).flatten()
    whole[padding] = False
    assert torch.equal(seen, whole)
