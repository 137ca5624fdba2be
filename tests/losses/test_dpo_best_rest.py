import pytest

from harness.losses.dpo_best_rest import DpoBestRest
from tests.losses.batches import batch_of, dpo_term, random_batch, rewards_best_first


@pytest.mark.parametrize("responses", [2, 3, 4, 8])
def test_equals_the_formula(responses: int) -> None:
    batch = random_batch(responses=responses)
    losses, _ = DpoBestRest(beta=0.1)(batch)
    for row, found in enumerate(losses.tolist()):
        r = rewards_best_first(batch, row, 0.1)
        expected = sum(dpo_term(r[0] - r[j]) for j in range(1, responses)) / (responses - 1)
        assert found == pytest.approx(expected, rel=1e-12)


def test_tied_best_are_averaged_and_not_compared_with_each_other() -> None:
    r = [1.0, 5.0, -2.0, 0.5]
    losses, _ = DpoBestRest(beta=1.0)(batch_of([r], [[9.0, 9.0, 5.0, 5.0]]))
    terms = [dpo_term(r[best] - r[rest]) for best in (0, 1) for rest in (2, 3)]
    assert losses.item() == pytest.approx(sum(terms) / 4, rel=1e-12)
