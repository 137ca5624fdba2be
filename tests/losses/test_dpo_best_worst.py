import pytest

from harness.losses.dpo_best_worst import DpoBestWorst
from tests.losses.batches import batch_of, dpo_term, random_batch, rewards_best_first


@pytest.mark.parametrize("responses", [2, 3, 4, 8])
def test_equals_the_formula(responses: int) -> None:
    batch = random_batch(responses=responses)
    losses, _ = DpoBestWorst(beta=0.1)(batch)
    for row, found in enumerate(losses.tolist()):
        r = rewards_best_first(batch, row, 0.1)
        assert found == pytest.approx(dpo_term(r[0] - r[-1]), rel=1e-12)


def test_ties_are_averaged_over_best_times_worst() -> None:
    r = [1.0, 5.0, -2.0, 0.5, 3.0]
    losses, valid = DpoBestWorst(beta=1.0)(batch_of([r], [[9.0, 9.0, 5.0, 1.0, 1.0]]))
    terms = [dpo_term(r[best] - r[worst]) for best in (0, 1) for worst in (3, 4)]
    assert losses.item() == pytest.approx(sum(terms) / 4, rel=1e-12)
    assert valid.item()
