import math
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.losses.dpo_all_pairs import DpoAllPairs
from harness.losses.mdpo_linear import MdpoLinear
from tests.losses.batches import batch_of, dpo_term, random_batch, rewards_best_first

Normalise = Literal["pairs", "l1", "max", "none"]
TOTALS = {"pairs": lambda n: n * (n - 1) / 2, "l1": lambda n: n * n // 4, "max": lambda n: n - 1, "none": lambda n: 1}


@pytest.mark.parametrize("normalise", ["pairs", "l1", "max", "none"])
@pytest.mark.parametrize("responses", [2, 3, 4, 8])
def test_equals_the_formula(normalise: Normalise, responses: int) -> None:
    batch = random_batch(responses=responses)
    losses, _ = MdpoLinear(beta=0.1, normalise=normalise)(batch)
    for row, found in enumerate(losses.tolist()):
        r = rewards_best_first(batch, row, 0.1)
        total = sum((responses + 1 - 2 * (i + 1)) * r[i] for i in range(responses))
        assert found == pytest.approx(dpo_term(total / TOTALS[normalise](responses)), rel=1e-10)


@pytest.mark.parametrize(
    ("normalise", "expected"),
    [
        ("pairs", [1 / 2, 1 / 6, -1 / 6, -1 / 2]),
        ("l1", [3 / 4, 1 / 4, -1 / 4, -3 / 4]),
        ("max", [1, 1 / 3, -1 / 3, -1]),
        ("none", [3, 1, -1, -3]),
    ],
)
def test_weights_of_four(normalise: Normalise, expected: list[float]) -> None:
    batch = batch_of([[-4.0] * 4], [[4.0, 3.0, 2.0, 1.0]])
    MdpoLinear(beta=1.0, normalise=normalise)(batch)[0].sum().backward()
    assert batch.logps.grad is not None
    assert [-2 * g for g in batch.logps.grad[0].tolist()] == pytest.approx(expected)


def test_ties_share_a_mid_rank() -> None:
    r = [1.0, 0.5, -2.0, 3.0]
    losses, _ = MdpoLinear(beta=1.0)(batch_of([r], [[9.0, 5.0, 5.0, 1.0]]))
    weights = [3 / 5, 0.0, 0.0, -3 / 5]  # five strict pairs; the tied two beat one and lose to one
    assert losses.item() == pytest.approx(dpo_term(sum(w * x for w, x in zip(weights, r, strict=True))), rel=1e-12)


@pytest.mark.parametrize("normalise", ["pairs", "l1", "max", "none"])
def test_score_weights_are_centred_scores(normalise: Normalise) -> None:
    r, g = [1.0, 0.5, -2.0, 3.0], [2.5, 7.0, -1.0, 0.0]
    losses, _ = MdpoLinear(beta=1.0, normalise=normalise, weights="score")(batch_of([r], [g]))
    raw = [4 * (x - sum(g) / 4) for x in g]
    total = {
        "pairs": sum(abs(a - b) for i, a in enumerate(g) for b in g[i + 1 :]),
        "l1": sum(w for w in raw if w > 0),
        "max": max(abs(w) for w in raw),
        "none": 1.0,
    }[normalise]
    expected = dpo_term(sum(w * x for w, x in zip(raw, r, strict=True)) / total)
    assert losses.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("normalise", ["pairs", "l1", "max"])
def test_score_weights_with_two_responses_is_dpo(normalise: Normalise) -> None:
    batch = batch_of([[1.0, -2.5]], [[0.75, 0.5]])
    losses, _ = MdpoLinear(beta=0.5, normalise=normalise, weights="score")(batch)
    assert losses.item() == pytest.approx(dpo_term(0.5 * 3.5), rel=1e-12)


numbers = st.floats(-50, 50, allow_nan=False)
groups = st.integers(2, 6).flatmap(
    lambda n: st.tuples(st.lists(numbers, min_size=n, max_size=n), st.lists(st.integers(0, 5), min_size=n, max_size=n))
)


@settings(max_examples=200, deadline=None)
@given(groups)
def test_never_above_the_mean_over_all_pairs(group: tuple[list[float], list[int]]) -> None:
    batch = batch_of([group[0]], [[float(s) for s in group[1]]])
    linear, valid = MdpoLinear(beta=0.5)(batch)
    pairs, also_valid = DpoAllPairs(beta=0.5)(batch)
    assert linear.item() <= pairs.item() + 1e-12
    assert valid.item() == also_valid.item()


@settings(max_examples=200, deadline=None)
@given(groups)
def test_equals_all_pairs_in_value_and_gradient_where_policy_is_reference(
    group: tuple[list[float], list[int]],
) -> None:
    logps, scores = group
    found = []
    for loss in (MdpoLinear(beta=0.5), DpoAllPairs(beta=0.5)):
        batch = batch_of([logps], [[float(s) for s in scores]], [logps])
        losses, valid = loss(batch)
        losses.sum().backward()
        assert losses.item() == pytest.approx(math.log(2) if valid.item() else 0.0)
        found.append(batch.logps.grad)
    assert found[0] is not None
    assert found[1] is not None
    torch.testing.assert_close(found[0], found[1])
