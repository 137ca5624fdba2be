"""The tensor pieces that losses are made of."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.losses._tensors import (
    LOGP_LIMIT,
    comparisons,
    extreme_responses,
    held_logps,
    masked_logsumexp,
    pairwise_loss,
    soft_targets,
    strict_pairs,
)
from tests.losses.batches import dpo_term


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=1, max_size=6), st.floats(0, 2))
def test_pairs_with_a_margin_are_a_strict_partial_order(scores: list[float], margin: float) -> None:
    mask = torch.tensor([[True] * len(scores) + [False]])
    pairs = strict_pairs(torch.tensor([[*scores, 9.0]], dtype=torch.float64), mask, margin)[0]
    assert not pairs[-1].any()
    assert not pairs[:, -1].any()
    for i, j in itertools.product(range(len(scores)), repeat=2):
        assert pairs[i, j].item() == (scores[i] - scores[j] > margin)
    assert not (pairs & pairs.T).any()
    through = (pairs[:, :, None] & pairs[None, :, :]).any(dim=1)
    assert (pairs | ~through).all()


def test_the_best_and_the_worst_are_all_that_are_tied() -> None:
    pairs = strict_pairs(torch.tensor([[2.0, 1.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0]]), torch.ones(2, 4, dtype=torch.bool))
    best, worst = extreme_responses(pairs)
    assert best.tolist() == [[True, False, True, False], [False] * 4]
    assert worst.tolist() == [[False, False, False, True], [False] * 4]


def test_logsumexp_over_nothing_is_finite_and_has_no_gradient() -> None:
    values = torch.tensor([[1.0, 2.0, float("nan")], [1.0, 2.0, 3.0]], requires_grad=True)
    found = masked_logsumexp(values, torch.tensor([[True, True, False], [False] * 3]), dim=1)
    assert found[0].item() == pytest.approx(torch.tensor([1.0, 2.0]).logsumexp(0).item())
    assert found[1] < -1e37
    assert found[1].isfinite()
    found.sum().backward()
    assert values.grad is not None
    assert values.grad[0, 2] == 0
    assert (values.grad[1] == 0).all()


def test_log_probabilities_are_held_where_differences_are_finite() -> None:
    inf, nan = float("inf"), float("nan")
    held = held_logps(torch.tensor([[-inf, inf, -3.0, nan, nan]]), torch.tensor([[True, True, True, False, True]]))
    assert held[0, :4].tolist() == [-LOGP_LIMIT, LOGP_LIMIT, -3.0, 0.0]
    assert held[0, 4].isnan()


def test_comparisons_are_all_twos_in_both_orders() -> None:
    found = comparisons(torch.tensor([[True, True, False]]))
    assert found.nonzero().tolist() == [[0, 0, 1], [0, 1, 0]]


def test_soft_targets_are_a_distribution_over_what_is_real() -> None:
    scores, mask = torch.tensor([[1.0, 1.0, 0.0, float("nan")]]), torch.tensor([[True, True, True, False]])
    e = torch.tensor(0.5).exp().item()
    assert soft_targets(scores, mask, 2.0)[0].tolist() == pytest.approx(
        [e / (2 * e + 1), e / (2 * e + 1), 1 / (2 * e + 1), 0]
    )
    assert soft_targets(scores, mask, 1e-6)[0].tolist() == [0.5, 0.5, 0.0, 0.0]


def test_pairwise_loss_is_a_weighted_mean() -> None:
    rewards = torch.tensor([[1.0, 3.0, 0.5]], dtype=torch.float64)
    weights = torch.zeros(1, 3, 3)
    weights[0, 0, 1], weights[0, 0, 2] = 3.0, 1.0
    losses, valid = pairwise_loss(rewards, weights)
    assert losses.item() == pytest.approx((3 * dpo_term(-2.0) + dpo_term(0.5)) / 4)
    assert valid.tolist() == [True]
    shifted, _ = pairwise_loss(rewards, weights, margin=0.25)
    assert shifted.item() == pytest.approx((3 * dpo_term(-2.25) + dpo_term(0.25)) / 4)
    smoothed, _ = pairwise_loss(rewards, weights, label_smoothing=0.1)
    flipped = (3 * dpo_term(2.0) + dpo_term(-0.5)) / 4
    assert smoothed.item() == pytest.approx(0.9 * losses.item() + 0.1 * flipped)
