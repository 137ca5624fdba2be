"""Losses without a reference (simpo_pairs, rrhf), and the one whose log-ratios are per token by default (ipo_pairs)."""

import pytest
import torch

from tests.losses.batches import a_loss, batch_of, dpo_term, gradient, random_batch


@pytest.mark.parametrize("name", ["simpo_pairs", "rrhf"])
def test_the_reference_is_not_looked_at(name: str) -> None:
    batch, loss = random_batch(), a_loss(name)
    for junk in (0.0, 1e30, float("nan"), float("-inf")):
        without = batch._replace(ref_logps=torch.full_like(batch.ref_logps, junk))
        torch.testing.assert_close(loss(without)[0], loss(batch)[0])


def test_simpo_takes_the_margin_off_every_pair() -> None:
    batch = batch_of([[-4.0, -9.0, -6.0]], [[3.0, 2.0, 1.0]])._replace(lengths=torch.tensor([[4, 3, 12]]))
    losses, _ = a_loss("simpo_pairs", beta=2.5, gamma=0.4)(batch)
    means = [-1.0, -3.0, -0.5]
    terms = [dpo_term(2.5 * (means[i] - means[j]) - 0.4) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert losses.item() == pytest.approx(sum(terms) / 3)


def test_rrhf_is_a_hinge_without_margin() -> None:
    """Responses in order, however close, add nothing; each wrong pair adds its difference, as a sum over pairs."""
    scores = [[3.0, 2.0, 1.0]]
    hinges = a_loss("rrhf", nll_alpha=0.0, length_penalty=0.0)
    ordered = batch_of([[-4.0, -4.1, -5.0]], scores)
    assert hinges(ordered)[0].item() == 0
    assert (gradient(hinges, ordered) == 0).all()
    wrong = batch_of([[-6.0, -5.0, -2.0]], scores)
    assert hinges(wrong)[0].item() == pytest.approx(1 + 4 + 3)
    assert gradient(hinges, wrong)[0].tolist() == [-2.0, 0.0, 2.0]


def test_rrhf_averages_the_likelihood_over_real_tokens() -> None:
    batch = batch_of([[-8.0, -9.0], [-8.0, -9.0]], [[2.0, 1.0], [2.0, 1.0]])
    losses, _ = a_loss("rrhf", length_penalty=0.0)(batch._replace(lengths=torch.tensor([[4, 50], [16, 50]])))
    assert losses.tolist() == pytest.approx([2.0, 0.5])


@pytest.mark.parametrize(("penalty", "expected"), [(0.0, 0.0), (1.0, 1.0), (0.5, 0.0)])
def test_rrhf_divides_by_a_power_of_the_length(penalty: float, expected: float) -> None:
    batch = batch_of([[-8.0, -16.0]], [[2.0, 1.0]])._replace(lengths=torch.tensor([[4, 16]]))
    loss = a_loss("rrhf", length_penalty=penalty, nll_alpha=0.0)
    assert loss(batch)[0].item() == pytest.approx(expected)  # by the power 1/2: 4 each


def test_ipo_is_per_token_unless_told_otherwise() -> None:
    batch = batch_of([[-4.0, -9.0]], [[2.0, 1.0]])._replace(lengths=torch.tensor([[4, 3]]))
    assert a_loss("ipo_pairs", beta=0.25)(batch)[0].item() == pytest.approx((-1 + 3 - 2) ** 2)
    assert a_loss("ipo_pairs", beta=0.25, length_norm=False)(batch)[0].item() == pytest.approx((-4 + 9 - 2) ** 2)


def test_ipo_has_a_finite_optimum() -> None:
    loss = a_loss("ipo_pairs", beta=0.5, length_norm=False)  # its target: 1
    assert gradient(loss, batch_of([[1.0, 0.0]], [[2.0, 1.0]]))[0].tolist() == [0.0, 0.0]
    assert gradient(loss, batch_of([[3.0, 0.0]], [[2.0, 1.0]]))[0, 0] > 0
