"""How losses relate to each other, whatever the rewards and scores."""

import math
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.protocols import RankedLogps
from tests.losses.batches import a_loss, batch_of, gradient

BETA = 0.5
numbers = st.floats(-50, 50, allow_nan=False)


@st.composite
def groups(draw: st.DrawFn) -> RankedLogps:
    """One prompt's responses, with ties and reference log-probabilities."""
    n = draw(st.integers(2, 6))
    logps, refs = (draw(st.lists(numbers, min_size=n, max_size=n)) for _ in range(2))
    scores = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    return batch_of([logps], [[0.5 * s for s in scores]], [refs])


def value(name: str, batch: RankedLogps, **fields: Any) -> float:
    return float(a_loss(name, beta=BETA, **fields)(batch)[0].item())


def number_of_pairs(batch: RankedLogps) -> int:
    scores = batch.scores[0].tolist()
    return sum(a > b for a in scores for b in scores)


def assert_same(one: Any, other: Any, batch: RankedLogps) -> None:
    """In value, in what is valid and in gradient."""
    for found, wanted in zip(one(batch), other(batch), strict=True):
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradient(one, batch), gradient(other, batch))


@settings(max_examples=100, deadline=None)
@given(groups(), st.sampled_from(["rank", "score"]))
def test_jensen_mdpo_linear_is_never_above_all_pairs(batch: RankedLogps, weights: str) -> None:
    """f(mean d) <= mean f(d), with pairs weighing the same or by their gap in score."""
    pairs = value("dpo_all_pairs", batch, weights="uniform" if weights == "rank" else "score")
    assert value("mdpo_linear", batch, weights=weights) <= pairs + 1e-9 * (1 + pairs)


@settings(max_examples=100, deadline=None)
@given(groups())
def test_of_a_sum_is_never_above_the_sum(batch: RankedLogps) -> None:
    """f(sum d) <= sum f(d)."""
    total = number_of_pairs(batch) * value("dpo_all_pairs", batch)
    assert value("mdpo_linear", batch, normalise="none") <= total + 1e-9 * (1 + total)


@settings(max_examples=100, deadline=None)
@given(groups())
def test_plackett_luce_is_never_above_the_sum_over_pairs(batch: RankedLogps) -> None:
    scores = batch.scores[0].tolist()
    choices = sum(s > min(scores) for s in scores)
    total = number_of_pairs(batch) * value("dpo_all_pairs", batch)
    assert choices * value("plackett_luce", batch) <= total + 1e-9 * (1 + total)


@settings(max_examples=60, deadline=None)
@given(groups(), st.sampled_from(["rank", "score"]))
def test_mdpo_linear_is_all_pairs_where_policy_is_reference(batch: RankedLogps, weights: str) -> None:
    start = batch._replace(ref_logps=batch.logps.detach())
    linear = a_loss("mdpo_linear", beta=BETA, weights=weights)
    pairs = a_loss("dpo_all_pairs", beta=BETA, weights="uniform" if weights == "rank" else "score")
    assert_same(linear, pairs, start)
    losses, valid = linear(start)
    assert losses.item() == pytest.approx(math.log(2) if valid.item() else 0.0)


@settings(max_examples=60, deadline=None)
@given(groups())
def test_sdpo_is_plackett_luces_first_choice(batch: RankedLogps) -> None:
    assert_same(a_loss("sdpo", beta=BETA), a_loss("plackett_luce", beta=BETA, top_k=1), batch)


@settings(max_examples=60, deadline=None)
@given(groups())
def test_plackett_luce_with_top_k_large_enough_is_whole(batch: RankedLogps) -> None:
    assert_same(a_loss("plackett_luce", beta=BETA, top_k=5), a_loss("plackett_luce", beta=BETA), batch)


@settings(max_examples=60, deadline=None)
@given(groups())
def test_infonca_with_hard_targets_is_the_best_chosen(batch: RankedLogps) -> None:
    """Each of several tied best has an equal share of the target; sdpo leaves the other best out of the choice."""
    scores = batch.scores[0].tolist()
    if scores.count(max(scores)) == 1:
        assert_same(a_loss("infonca", beta=BETA, temperature=1e-4), a_loss("sdpo", beta=BETA), batch)


@settings(max_examples=60, deadline=None)
@given(groups(), numbers, st.floats(0.1, 10.0))
def test_the_scale_of_scores_does_not_matter_where_it_is_said_so(
    batch: RankedLogps, shift: float, scale: float
) -> None:
    moved = batch._replace(scores=scale * (batch.scores + shift))
    for name in ("lipo_lambda", "dpo_all_pairs", "mdpo_linear"):
        loss = a_loss(name, beta=BETA, **({} if name == "lipo_lambda" else {"weights": "score"}))
        torch.testing.assert_close(loss(moved)[0], loss(batch)[0], rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(groups(), numbers)
@example(batch_of([[-1.0, -2.0, -3.0, -5.0, -4.0]], [[0.0, 1.0, 2.5, 2.5, 1.5]]), 2.00001)
def test_an_offset_of_the_scores_never_matters(batch: RankedLogps, shift: float) -> None:
    """A reward model's scores mean something in differences only."""
    moved = batch._replace(scores=batch.scores + shift)
    for name in ("infonca", "nca", "swepo", "rpo_bwd", "rpo_sq"):
        loss = a_loss(name, beta=BETA)
        torch.testing.assert_close(loss(moved)[0], loss(batch)[0], rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(groups(), st.floats(-1e4, 1e4))
@example(batch_of([[-1.0, -2.0, -3.0]], [[1.0, 2.0, 3.0]]), 0.1)
def test_an_offset_rounded_to_float32_moves_no_response_across_swepos_mean(batch: RankedLogps, shift: float) -> None:
    moved = batch._replace(scores=batch.scores.float() + shift)
    loss = a_loss("swepo", beta=BETA, alpha=0.0)
    torch.testing.assert_close(loss(moved), loss(batch), rtol=0, atol=0)


@pytest.mark.parametrize("scores", [[1.0, 1.0 + 2**-23], [1e6, 1e6 + 2**-4], [-1e6, -1e6 - 2**-4]])
def test_swepos_best_is_above_the_mean_however_near_the_other_is(scores: list[float]) -> None:
    """Their distance from the mean is within rounding; that one of the two is better is not."""
    batch = batch_of([[-1.0, -2.0]], [scores])
    batch = batch._replace(scores=batch.scores.float())
    assert value("swepo", batch, alpha=0.0) == pytest.approx(value("dpo_all_pairs", batch))


@settings(max_examples=60, deadline=None)
@given(groups())
def test_swepo_without_weights_is_a_choice_between_above_and_below_the_mean(batch: RankedLogps) -> None:
    mean = batch.scores.mean().item()
    rewards = [BETA * (a - b) for a, b in zip(batch.logps[0].tolist(), batch.ref_logps[0].tolist(), strict=True)]
    good = [math.exp(r) for r, g in zip(rewards, batch.scores[0].tolist(), strict=True) if g > mean]
    if good:
        expected = -math.log(math.fsum(good) / math.fsum(math.exp(r) for r in rewards))
        assert value("swepo", batch, alpha=0.0) == pytest.approx(expected, rel=1e-8, abs=1e-8)
