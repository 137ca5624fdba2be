import pytest

from harness.losses.dpo_all_pairs import DpoAllPairs
from tests.losses.batches import batch_of, dpo_term, random_batch, rewards_best_first


@pytest.mark.parametrize("responses", [2, 3, 4, 8])
def test_equals_the_formula(responses: int) -> None:
    batch = random_batch(responses=responses)
    losses, _ = DpoAllPairs(beta=0.1)(batch)
    for row, found in enumerate(losses.tolist()):
        r = rewards_best_first(batch, row, 0.1)
        terms = [dpo_term(r[i] - r[j]) for i in range(responses) for j in range(i + 1, responses)]
        assert found == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_ties_leave_only_strict_pairs() -> None:
    r = [1.0, 5.0, -2.0]
    losses, _ = DpoAllPairs(beta=1.0)(batch_of([r], [[2.0, 2.0, 1.0]]))
    assert losses.item() == pytest.approx((dpo_term(3.0) + dpo_term(7.0)) / 2, rel=1e-12)
