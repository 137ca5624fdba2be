import math
from typing import Literal

import pytest
import torch

from harness.components import build
from harness.errors import DataError
from harness.losses.dpo_best_worst import DpoBestWorst
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


@pytest.mark.parametrize("normalise", ["pairs", "l1", "max", "none"])
def test_listed_weights_of_ranks_are_ranks(normalise: Normalise) -> None:
    """With and without ties: a tied response has the mean of its places' weights."""
    r = [1.0, 0.5, -2.0, 3.0]
    batch = batch_of([r, r, r], [[3.0, 2.0, 0.0, 1.0], [2.0, 2.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]])
    listed = MdpoLinear(beta=0.5, normalise=normalise, weights=(3, 1, -1, -3))
    torch.testing.assert_close(listed(batch)[0], MdpoLinear(beta=0.5, normalise=normalise)(batch)[0])


@pytest.mark.parametrize("scale", [1.0, 2.0, 1 / 6])
@pytest.mark.parametrize("scores", [[4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 3.0, 1.0]])
def test_listed_weights_are_not_divided_unasked(scale: float, scores: list[float]) -> None:
    batch = batch_of([[1.0, 0.5, -2.0, 3.0]], [scores])
    listed = [scale * w for w in (1.0, 0.5, 0.5, -0.25)]
    fields = {"name": "mdpo_linear", "beta": 0.5, "weights": listed}
    expected = dpo_term(0.5 * scale * (1.0 + 0.5 * 0.5 + 0.5 * -2.0 - 0.25 * 3.0))
    for loss in (build("loss", fields), MdpoLinear(beta=0.5, weights=tuple(listed))):
        assert isinstance(loss, MdpoLinear)
        assert loss(batch)[0].item() == pytest.approx(expected, rel=1e-12)
    asked = build("loss", fields | {"normalise": "max"})
    assert isinstance(asked, MdpoLinear)
    assert asked(batch)[0].item() == pytest.approx(dpo_term(0.5 * (1.0 + 0.25 - 1.0 - 0.75)), rel=1e-12)


def test_listed_weights_are_best_first_and_tied_places_share_their_mean() -> None:
    r = [1.0, 0.5, -2.0, 3.0]
    loss = MdpoLinear(beta=1.0, normalise="none", weights=(0.6, 0.3, -0.2, -0.7))
    losses, _ = loss(batch_of([r, r], [[1.0, 2.0, 4.0, 3.0], [1.0, 5.0, 5.0, 5.0]]))
    by_place = 0.6 * -2.0 + 0.3 * 3.0 - 0.2 * 0.5 - 0.7 * 1.0
    shared = (0.6 + 0.3 - 0.2) / 3
    assert losses.tolist() == pytest.approx([dpo_term(by_place), dpo_term(shared * (0.5 - 2.0 + 3.0) - 0.7)])


def test_listed_weights_at_the_ends_are_best_against_worst() -> None:
    batch = random_batch(responses=4)
    ends = MdpoLinear(beta=0.1, normalise="max", weights=(1, 0, 0, -1))
    torch.testing.assert_close(ends(batch)[0], DpoBestWorst(beta=0.1)(batch)[0])


def test_listed_weights_that_cancel_in_a_tie_say_nothing() -> None:
    batch = batch_of([[-1.0, -2.0, -4.0, -3.0]], [[2.0, 2.0, 1.0, 1.0]])
    losses, valid = MdpoLinear(normalise="l1", weights=(1, -1, 1, -1))(batch)
    losses.sum().backward()
    assert losses.item() == pytest.approx(math.log(2))
    assert valid.item()
    assert batch.logps.grad is not None
    assert (batch.logps.grad == 0).all()


def test_another_number_of_responses_than_weights_is_an_error() -> None:
    loss = MdpoLinear(weights=(3, 1, -1, -3))
    with pytest.raises(DataError, match="weights has 4 numbers, but a prompt has 3 responses; give as many"):
        loss(batch_of([[-1.0] * 4, [-1.0] * 3], [[4.0, 3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]))
    # Where nothing is preferred, no weight is asked for.
    assert loss(batch_of([[-1.0] * 3, [-1.0]], [[1.0] * 3, [1.0]]))[1].tolist() == [False, False]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.0, 0.0], "must not all be 0"),
        ([1.0], "at least 2"),
        ("ranks", "'rank' or 'score'"),
        ([1.0, math.inf], "finite"),
    ],
)
def test_weights_that_are_none_are_refused(weights: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("loss", {"name": "mdpo_linear", "weights": weights})


def test_a_list_of_weights_is_part_of_the_identity() -> None:
    loss = build("loss", {"name": "mdpo_linear", "weights": [1, 0, -1]})
    assert loss.identity()["weights"] == [1.0, 0.0, -1.0]
    assert loss.identity()["normalise"] == "none"
    assert build("loss", {"name": "mdpo_linear"}).identity()["normalise"] == "pairs"
