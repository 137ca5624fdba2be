"""Drawing tokens: against the definitions, and against numpy's running sums."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.models.decode.sampling import BLOCK, SHORTLIST, Sampler, draw, nucleus, stream
from harness.types import Sampling


def times(rows: int, size: int, seed: int = 0) -> torch.Tensor:
    count = -(-size // BLOCK) + BLOCK
    return torch.tensor(np.random.default_rng(seed).standard_exponential((rows, count), np.float32))


@pytest.mark.parametrize("size", [5, BLOCK, BLOCK + 1, 3 * BLOCK, 1000])
def test_ids_are_drawn_in_proportion_to_their_weights(size: int) -> None:
    from scipy.stats import chisquare

    rng = np.random.default_rng(size)
    weights = rng.exponential(size=size) ** 3 * (rng.random(size) < 0.9)
    n = 20_000
    drawn = draw(torch.tensor(weights, dtype=torch.float32).expand(n, -1), times(n, size)).numpy()
    counts, expected = np.bincount(drawn, minlength=size), n * weights / weights.sum()
    assert counts[weights == 0].sum() == 0
    common = expected >= 5
    rest = [counts[~common].sum()], [expected[~common].sum()]
    both = [np.append(c[common], r) for c, r in zip((counts, expected), rest, strict=True)]
    keep = both[1] > 0
    assert chisquare(both[0][keep], both[1][keep]).pvalue > 1e-3


@settings(max_examples=50)
@given(st.integers(1, 900), st.integers(0, 2**32 - 1))
def test_a_token_of_weight_0_is_never_drawn(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = torch.tensor((rng.random(size) * (rng.random(size) < 0.05)).astype(np.float32))[None]
    weights[0, int(rng.integers(size))] = 1e-30
    assert weights[0, draw(weights, times(1, size, seed))[0]] > 0


def test_noise_seldom_changes_a_draw() -> None:
    """Two forwards of one prompt in different batches. Along a running sum 1 in 70 of these draws would change."""
    torch.manual_seed(0)
    logits = torch.randn(4000, 8192) * 2
    probs, noisy = (torch.softmax(x, -1) for x in (logits, logits + 1e-4 * torch.randn_like(logits)))
    exponential = times(4000, 8192)
    assert (draw(probs, exponential) != draw(noisy, exponential)).sum() <= 5


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
    together = Sampler(samplings, [stream(0, [1], k) for k in range(6)])
    alone = [Sampler([s], [stream(0, [1], k)]) for k, s in enumerate(samplings)]
    for _ in range(3):
        expected = [int(sampler.pick(logits[i : i + 1])[0]) for i, sampler in enumerate(alone)]
        assert together.pick(logits).tolist() == expected
        assert expected[:2] == logits[:2].argmax(-1).tolist()
    order = [5, 0, 3]
    together.keep(order)
    expected = [int(alone[i].pick(logits[i : i + 1])[0]) for i in order]
    assert together.pick(logits[order]).tolist() == expected


def test_a_stream_is_of_its_seed_prompt_and_sample() -> None:
    first = stream(1, [1, 2], 0).random(9).tolist()
    assert stream(1, [1, 2], 0).random(9).tolist() == first
    assert all(
        s.random(9).tolist() != first for s in (stream(2, [1, 2], 0), stream(1, [1, 3], 0), stream(1, [1, 2], 1))
    )


def test_a_time_of_zero_draws_nothing_that_has_no_weight() -> None:
    """Neither of the ids that were left out, nor of those that pad the last block."""
    weights = torch.zeros(2, 70)
    weights[0, 3] = 1.0
    weights[1, 69] = 1.0
    for place in range(1 + BLOCK):
        times = torch.ones(2, 1 + BLOCK)
        times[:, place] = 0.0
        assert draw(weights, times).tolist() == [3, 69]
