import math

import pytest
import torch

from tests.losses.batches import a_loss, batch_of, gradient

LOG3 = math.log2(3)


def test_the_weights_get_no_gradient() -> None:
    """Nor could a finite difference find one: they change only where the ranking does. What is tested is that the
    gradient is that of weighted DPO terms, with the weights as numbers."""
    r, scores = [0.3, -0.2, 0.9], [2.0, 1.0, 0.0]
    found = gradient(a_loss("lipo_lambda", beta=1.0), batch_of([r], [scores]))[0].tolist()
    gains, discounts = [1.0, 2**0.5 - 1, 0.0], [1 / LOG3, 1 / 2, 1.0]  # ranks 2, 3, 1
    expected = [0.0, 0.0, 0.0]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        slope = abs(gains[i] - gains[j]) * abs(discounts[i] - discounts[j]) / (1 + math.exp(r[i] - r[j])) / 3
        expected[i] -= slope
        expected[j] += slope
    assert found == pytest.approx(expected)


def test_equal_rewards_are_ranked_by_scores() -> None:
    """At initialisation all rewards are the same. Sharing one mean rank would make every weight 0, and training would
    never begin."""
    losses, _ = a_loss("lipo_lambda", beta=1.0)(batch_of([[-4.0] * 3], [[0.0, 2.0, 1.0]]))
    gains, discounts = [1.0, 2**0.5 - 1, 0.0], [1.0, 1 / LOG3, 1 / 2]
    weights = [(gains[i] - gains[j]) * (discounts[i] - discounts[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert losses.item() == pytest.approx(math.log(2) * sum(weights) / 3)


def test_responses_tied_in_both_share_a_rank() -> None:
    loss = a_loss("lipo_lambda", beta=1.0)
    batch = batch_of([[-4.0] * 3], [[1.0, 1.0, 0.0]])
    weight = 1 / math.log2(2.5) - 1 / 2  # ranks 1.5, 1.5, 3
    assert loss(batch)[0].item() == pytest.approx(math.log(2) * weight)
    assert gradient(loss, batch)[0].tolist() == pytest.approx([-weight / 4, -weight / 4, weight / 2])


def test_a_misplaced_best_weighs_more_than_a_misplaced_middle() -> None:
    scores = [[3.0, 2.0, 1.0, 0.0]]
    loss = a_loss("lipo_lambda", beta=1.0)
    best_down = loss(batch_of([[2.0, 3.0, 1.0, 0.0]], scores))[0]
    low_up = loss(batch_of([[3.0, 2.0, 0.0, 1.0]], scores))[0]
    assert best_down > low_up


def test_negative_and_large_scores_are_mapped_first() -> None:
    r = [[0.3, -0.2, 0.9]]
    one = a_loss("lipo_lambda")(batch_of(r, [[-900.0, -1000.0, -1200.0]]))[0]
    torch.testing.assert_close(one, a_loss("lipo_lambda")(batch_of(r, [[3.0, 2.0, 0.0]]))[0])
