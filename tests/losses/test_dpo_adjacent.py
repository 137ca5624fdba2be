import pytest

from harness.losses.dpo_adjacent import DpoAdjacent
from tests.losses.batches import batch_of, dpo_term, random_batch, rewards_best_first


@pytest.mark.parametrize("responses", [2, 3, 4, 8])
def test_equals_the_formula(responses: int) -> None:
    batch = random_batch(responses=responses)
    losses, _ = DpoAdjacent(beta=0.1)(batch)
    for row, found in enumerate(losses.tolist()):
        r = rewards_best_first(batch, row, 0.1)
        expected = sum(dpo_term(r[i] - r[i + 1]) for i in range(responses - 1)) / (responses - 1)
        assert found == pytest.approx(expected, rel=1e-12)


def test_ties_compare_consecutive_distinct_levels_each_weighing_the_same() -> None:
    r = [1.0, 5.0, -2.0, 0.5, 3.0, -1.0]
    losses, _ = DpoAdjacent(beta=1.0)(batch_of([r], [[9.0, 9.0, 5.0, 1.0, 1.0, 1.0]]))
    upper = [dpo_term(r[i] - r[2]) for i in (0, 1)]
    lower = [dpo_term(r[2] - r[j]) for j in (3, 4, 5)]
    assert losses.item() == pytest.approx((sum(upper) / 2 + sum(lower) / 3) / 2, rel=1e-12)


def test_middle_responses_get_no_signal_at_initialisation() -> None:
    batch = batch_of([[-4.0, -4.0, -4.0, -4.0]], [[4.0, 3.0, 2.0, 1.0]])
    DpoAdjacent(beta=1.0)(batch)[0].sum().backward()
    assert batch.logps.grad is not None
    assert batch.logps.grad[0].tolist() == pytest.approx([-1 / 6, 0.0, 0.0, 1 / 6])
