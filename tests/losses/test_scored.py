"""Losses on the scores themselves: infonca, nca, swepo, rpo_bwd, rpo_sq."""

import math

import pytest
import torch

from tests.losses.batches import a_loss, batch_of, gradient


def test_infonca_is_least_where_the_softmaxes_agree() -> None:
    scores = [0.5, -1.0, 2.0]
    loss = a_loss("infonca", beta=1.0, temperature=2.0)
    batch = batch_of([[s / 2 + 3 for s in scores]], [scores])
    targets = [math.exp(s / 2) for s in scores]
    entropy = -sum(t / sum(targets) * math.log(t / sum(targets)) for t in targets)
    assert loss(batch)[0].item() == pytest.approx(entropy)
    torch.testing.assert_close(gradient(loss, batch), torch.zeros(1, 3, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["infonca", "nca"])
def test_tied_scores_have_equal_targets(name: str) -> None:
    slope = gradient(a_loss(name, beta=1.0), batch_of([[-4.0, -4.0, -4.0]], [[1.0, 1.0, 0.0]], [[-4.0] * 3]))[0]
    assert slope[0] == slope[1] < 0 < slope[2]


@pytest.mark.parametrize("name", ["infonca", "nca"])
def test_a_temperature_near_zero_gives_no_nan(name: str) -> None:
    for dtype in (torch.float32, torch.float64):
        batch = batch_of([[-4.0, -5.0, -4.5]], [[1000.0, 999.0, -1000.0]])
        batch = batch._replace(scores=batch.scores.to(dtype), logps=batch.logps.detach().to(dtype).requires_grad_())
        loss = a_loss(name, temperature=1e-6)
        assert loss(batch)[0].isfinite().all()
        assert gradient(loss, batch).isfinite().all()
    with pytest.raises(ValueError, match="temperature"):
        a_loss(name, temperature=0)


def test_nca_lowers_a_response_whose_likelihood_is_too_high_for_its_score() -> None:
    """Each reward has an optimum of its own, log(N p): a number added to all rewards is not free, as it is in DPO."""
    scores = [0.5, -1.0, 2.0]
    strengths = [math.exp(s) for s in scores]
    optimum = [math.log(3 * s / sum(strengths)) for s in strengths]
    loss = a_loss("nca", beta=1.0)
    torch.testing.assert_close(
        gradient(loss, batch_of([optimum], [scores])), torch.zeros(1, 3, dtype=torch.float64), atol=1e-12, rtol=0
    )
    assert (gradient(loss, batch_of([[x + 1 for x in optimum]], [scores])) > 0).all()
    assert (gradient(loss, batch_of([[x - 1 for x in optimum]], [scores])) < 0).all()


def test_swepo_sides_with_the_responses_above_the_mean() -> None:
    """Scores 4, 3, 1, 2 and a mean of 2.5; and a score at the mean itself is not above it."""
    slope = gradient(a_loss("swepo", beta=1.0, alpha=0.0), batch_of([[-4.0] * 4], [[4.0, 3.0, 1.0, 2.0]], [[-4.0] * 4]))
    assert slope[0].tolist() == pytest.approx([-0.25, -0.25, 0.25, 0.25])
    slope = gradient(a_loss("swepo", beta=1.0, alpha=0.0), batch_of([[-4.0] * 3], [[4.0, 3.0, 2.0]], [[-4.0] * 3]))
    assert slope[0].tolist() == pytest.approx([-2 / 3, 1 / 3, 1 / 3])


def test_swepo_weighs_responses_by_their_distance_from_the_mean() -> None:
    slope = gradient(
        a_loss("swepo", beta=1.0, alpha=0.5), batch_of([[-4.0] * 4], [[4.0, 2.0, 1.0, -3.0]], [[-4.0] * 4])
    )
    assert slope[0, 0] / slope[0, 1] == pytest.approx(math.exp(0.5 * 2))  # 3 above the mean, and 1
    assert slope[0, 3] / slope[0, 2] == pytest.approx(math.exp(0.5 * 4))  # 4 below, and 0


@pytest.mark.parametrize("name", ["rpo_bwd", "rpo_sq"])
def test_rpo_is_zero_where_rewards_are_scores(name: str) -> None:
    scores = [0.5, -1.0, 2.0, 2.0]
    batch = batch_of([[0.3 * s - 7 for s in scores]], [scores])
    loss = a_loss(name, beta=1.0, eta=0.3)
    assert loss(batch)[0].item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(gradient(loss, batch), torch.zeros(1, 4, dtype=torch.float64), atol=1e-12, rtol=0)
    assert a_loss(name, beta=1.0, eta=0.5)(batch)[0].item() > 0.001


def test_rpo_compares_tied_responses_too() -> None:
    batch = batch_of([[1.0, 2.0, 0.0]], [[1.5, 1.5, 0.0]])
    assert a_loss("rpo_sq", beta=1.0)(batch)[0].item() == pytest.approx((1.0 + 0.25 + 0.25) / 3)
    near = batch._replace(scores=torch.tensor([[1.75, 1.25, 0.0]]))
    assert a_loss("rpo_sq", beta=1.0)(near)[0].item() == pytest.approx((1.5**2 + 2 * 0.75**2) / 3)
    assert a_loss("rpo_sq", beta=1.0, tie_margin=0.5)(near)[0].item() == pytest.approx((1.0 + 2 * 0.75**2) / 3)
    slope = gradient(a_loss("rpo_bwd", beta=1.0), batch_of([[1.0, 2.0, -99.0]], [[1.5, 1.5, -99.0]]))[0]
    pull = (0.5 - 1 / (1 + math.exp(1.0))) / 3  # towards each other; the last is as far below as it should be
    assert slope.tolist() == pytest.approx([-pull, pull, 0.0])


def test_rpo_bwd_s_gradient_is_soft_label_dpo_s() -> None:
    slope = gradient(a_loss("rpo_bwd", beta=1.0, eta=2.0), batch_of([[1.0, 0.2]], [[0.7, 0.4]]))[0]
    expected = 1 / (1 + math.exp(-0.8)) - 1 / (1 + math.exp(-0.6))
    assert slope.tolist() == pytest.approx([expected, -expected])


def test_rpo_bwd_with_certain_scores_is_dpo() -> None:
    batch = batch_of([[1.0, 0.2, -0.3]], [[200.0, 0.0, -200.0]])
    torch.testing.assert_close(a_loss("rpo_bwd")(batch)[0], a_loss("dpo_all_pairs")(batch)[0])
