"""Drawing tokens: against the definitions, and against numpy's running sums."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.sampling import BLOCK, SHORTLIST, Sampler, inverse_cdf, nucleus, stream
from harness.types import Sampling


@pytest.mark.parametrize("size", [1, 5, BLOCK, BLOCK + 1, 3 * BLOCK, 1000])
def test_inverse_cdf_is_where_the_running_sum_passes(size: int) -> None:
    rng = np.random.default_rng(size)
    weights = rng.random((200, size)).astype(np.float32) * (rng.random((200, size)) < 0.3)
    weights[:, rng.integers(size)] += 0.1
    u = rng.random(200)
    found = inverse_cdf(torch.tensor(weights), torch.tensor(u)).numpy()
    sums = weights.astype(np.float64).cumsum(-1)
    expected = [int(np.searchsorted(row, x * row[-1], side="right")) for row, x in zip(sums, u, strict=True)]
    assert found.tolist() == expected


@settings(max_examples=50)
@given(st.integers(1, 900), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 1 - 2**-53]))
def test_a_token_of_weight_0_is_never_drawn(size: int, seed: int, u: float) -> None:
    rng = np.random.default_rng(seed)
    weights = torch.tensor((rng.random(size) * (rng.random(size) < 0.05)).astype(np.float32))[None]
    weights[0, int(rng.integers(size))] = 1e-30
    assert weights[0, inverse_cdf(weights, torch.tensor([u], dtype=torch.float64))[0]] > 0


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 8.0])
def test_the_nucleus_is_the_one_of_transformers(sharpness: float) -> None:
    """Sharp rows end within the shortlist, flat ones far outside of it."""
    from transformers import TopPLogitsWarper

    torch.manual_seed(0)
    logits = torch.randn(8, 4 * SHORTLIST) * sharpness
    probs = torch.softmax(logits, -1)
    for top_p in (0.05, 0.5, 0.9, 0.999):
        kept = nucleus(probs, torch.full((8,), top_p)) > 0
        theirs = torch.isfinite(TopPLogitsWarper(top_p)(None, logits.double()))
        assert torch.equal(kept, theirs)


def test_equals_are_all_in_the_nucleus_or_none_is() -> None:
    probs = torch.tensor([[0.1, 0.3, 0.2, 0.2, 0.2]])
    assert (nucleus(probs, torch.tensor([0.4]))[0] > 0).tolist() == [False, True, True, True, True]
    assert (nucleus(probs, torch.tensor([0.2]))[0] > 0).tolist() == [False, True, False, False, False]


def test_rows_are_drawn_by_their_own_sampling_whatever_stands_beside_them() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 700) * 3
    samplings = [Sampling(temperature=t, top_p=p) for t in (0, 0.5, 1) for p in (0.7, 1)]
    streams = np.random.default_rng(0).random((6, 4))
    together = Sampler(samplings, streams, torch.device("cpu"))
    alone = [Sampler([s], streams[i : i + 1], torch.device("cpu")) for i, s in enumerate(samplings)]
    for step in range(2):
        expected = [int(sampler.pick(logits[i : i + 1], step)[0]) for i, sampler in enumerate(alone)]
        assert together.pick(logits, step).tolist() == expected
        assert expected[:2] == logits[:2].argmax(-1).tolist()
    order = [5, 0, 3]
    together.keep(order)
    expected = [int(alone[i].pick(logits[i : i + 1], 3)[0]) for i in order]
    assert together.pick(logits[order], 3).tolist() == expected


def test_a_longer_stream_begins_like_a_shorter_one() -> None:
    long = stream(1, [1, 2], 0, 50)
    assert (stream(1, [1, 2], 0, 7) == long[:7]).all()
    others = [stream(2, [1, 2], 0, 50), stream(1, [1, 3], 0, 50), stream(1, [1, 2], 1, 50)]
    assert all((other != long).any() for other in others)
