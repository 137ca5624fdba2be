"""The sequential test: its errors when one looks after every prompt, how soon it ends, and its bounds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats.sequential import Betting

MARGIN, REACH, ALPHA, ALL = 2.0, 100.0, 0.05, 805


def ends(differences: np.ndarray) -> tuple[str, int]:
    """(the outcome, prompts seen), looking after every prompt."""
    betting = Betting(MARGIN, REACH, ALPHA)
    for difference in differences.tolist():
        if betting.add(difference) != "inconclusive":
            break
    return betting.outcome, betting.n


def dense(rng: np.random.Generator, n: int, mean: float) -> np.ndarray:
    """Paired differences as two rows that agree on most prompts have them; their standard deviation is 18 points, as
    for recorded systems."""
    u = rng.random(n)
    spread = np.where(u < 0.3, rng.normal(0, 33, n), 0.0)
    return np.clip(spread + mean, -100, 100)


def tied(rng: np.random.Generator, n: int, mean: float) -> np.ndarray:
    """Nine prompts of ten tie, the others are won or lost."""
    lost = 0.05 - mean / 200
    u = rng.random(n)
    return np.where(u < lost, -100.0, np.where(u > 1 - (0.1 - lost), 100.0, 0.0))


def rare(rng: np.random.Generator, n: int, mean: float) -> np.ndarray:
    """Only losses, and few."""
    return np.where(rng.random(n) < -mean / 100, -100.0, 0.0)


@pytest.mark.parametrize(
    "draw",
    [pytest.param(dense, marks=pytest.mark.slow), pytest.param(tied, marks=pytest.mark.slow), rare],
    ids=lambda draw: draw.__name__,
)
def test_looking_after_every_prompt_errs_in_five_of_a_hundred(draw: object) -> None:
    """The truth is exactly at the margin, where either answer is an error of its own side."""
    rng, tries = np.random.default_rng(0), 400
    outcomes = [ends(draw(rng, ALL, -MARGIN))[0] for _ in range(tries)]  # type: ignore[operator]
    for outcome in ("not worse", "worse"):
        assert outcomes.count(outcome) / tries <= ALPHA + 2.33 * math.sqrt(ALPHA * (1 - ALPHA) / tries)


@pytest.mark.soak
@pytest.mark.parametrize("draw", [dense, tied, rare], ids=lambda draw: draw.__name__)
def test_it_errs_no_more_often_with_thousands_of_prompts(draw: object) -> None:
    rng, tries = np.random.default_rng(1), 1000
    outcomes = [ends(draw(rng, 4000, -MARGIN))[0] for _ in range(tries)]  # type: ignore[operator]
    for outcome in ("not worse", "worse"):
        assert outcomes.count(outcome) / tries <= ALPHA + 2.33 * math.sqrt(ALPHA * (1 - ALPHA) / tries)


@pytest.mark.parametrize(
    ("mean", "outcome"), [(3.0, "not worse"), (5.0, "not worse"), (-8.0, "worse"), (-12.0, "worse")]
)
def test_a_clear_truth_takes_half_of_the_prompts_at_most(mean: float, outcome: str) -> None:
    rng = np.random.default_rng(2)
    found = [ends(dense(rng, ALL, mean)) for _ in range(100)]
    assert sum(n for _, n in found) / len(found) <= ALL / 2
    assert sum(said == outcome for said, _ in found) >= 95


def test_a_settled_test_stays_settled() -> None:
    betting = Betting(MARGIN, REACH, ALPHA)
    while betting.add(60.0) == "inconclusive":
        pass
    n = betting.n
    for _ in range(50):
        assert betting.add(-100.0) == "not worse"
    assert betting.n == n
    assert betting.bounds().lower >= -MARGIN


def test_missing_verdicts_count_against_both_answers() -> None:
    certain, unsure = Betting(MARGIN, REACH, ALPHA), Betting(MARGIN, REACH, ALPHA)
    for _ in range(10):
        certain.add(20.0)
        unsure.add(-100.0, 100.0)
    assert max(unsure.evidence) < 0.5 < 1 < certain.evidence[0]
    assert unsure.outcome == "inconclusive"


def test_the_bounds_hold_at_all_n_at_once() -> None:
    rng, truth, tries = np.random.default_rng(3), -1.0, 60
    below = above = 0
    for _ in range(tries):
        betting = Betting(60.0, REACH, ALPHA)  # never settled on the way
        for difference in tied(rng, 150, truth).tolist():
            betting.add(difference)
        bounds = betting.bounds()  # of all n so far at once
        below, above = below + (bounds.lower > truth), above + (bounds.upper < truth)
    most = ALPHA + 2.33 * math.sqrt(ALPHA * (1 - ALPHA) / tries)
    assert max(below, above) / tries <= most


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.floats(0, 50))
def test_both_sides_mirror_each_other(differences: list[float], margin: float) -> None:
    """With the differences turned around, the bounds are too; the wealth is positive and finite."""
    one, other = Betting(0.0, REACH, ALPHA), Betting(0.0, REACH, ALPHA)
    for x in differences:
        one.add(x)
        other.add(-x)
    assert one.evidence == pytest.approx(other.evidence[::-1], rel=1e-6)
    assert one.bounds().lower == pytest.approx(-other.bounds().upper, abs=1e-4)
    betting = Betting(margin, REACH, ALPHA)
    for x in differences:
        betting.add(x)
    assert all(0 <= wealth < math.inf for wealth in betting.evidence)


@pytest.mark.parametrize("margin", [100.0, 120.0, -1.0, math.nan])
def test_a_margin_that_says_nothing_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="says nothing about differences of at most 100"):
        Betting(margin, REACH, ALPHA)
