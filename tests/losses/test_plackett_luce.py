import itertools
import math

import pytest

from harness.losses.plackett_luce import PlackettLuce
from tests.losses.batches import batch_of, random_batch, rewards_best_first


@pytest.mark.parametrize("responses", [2, 3, 4, 8])
def test_equals_the_formula(responses: int) -> None:
    batch = random_batch(responses=responses)
    losses, _ = PlackettLuce(beta=0.1)(batch)
    for row, found in enumerate(losses.tolist()):
        strengths = [math.exp(r) for r in rewards_best_first(batch, row, 0.1)]
        likelihood = math.prod(s / sum(strengths[k:]) for k, s in enumerate(strengths))
        assert found == pytest.approx(-math.log(likelihood) / (responses - 1), rel=1e-10)


def test_likelihoods_of_all_rankings_sum_to_one() -> None:
    rewards = [0.3, -1.2, 2.0, 0.9]
    rankings = list(itertools.permutations([4.0, 3.0, 2.0, 1.0]))
    losses, _ = PlackettLuce(beta=1.0)(batch_of([rewards] * len(rankings), rankings))
    assert sum(math.exp(-3 * loss) for loss in losses.tolist()) == pytest.approx(1.0)


def test_ties_compare_each_response_with_those_strictly_worse() -> None:
    r = [1.0, 0.5, -2.0, 3.0]
    losses, _ = PlackettLuce(beta=1.0)(batch_of([r], [[9.0, 9.0, 5.0, 1.0]]))
    worse = {0: (2, 3), 1: (2, 3), 2: (3,)}
    terms = [math.log(1 + sum(math.exp(r[j] - r[i]) for j in rest)) for i, rest in worse.items()]
    assert losses.item() == pytest.approx(sum(terms) / 3, rel=1e-12)
