"""Elo from who did better on each prompt: against a logistic regression, and against the truth."""

import math

import numpy as np
import pytest

from harness.stats.bradley_terry import BAND, PER_NAT, PRIOR, strengths


def rows(table: np.ndarray) -> dict[str, dict[str, float | None]]:
    return {f"r{i}": {f"q{k}": float(v) for k, v in enumerate(values)} for i, values in enumerate(table)}


def share(difference: float, reach: float | None) -> float:
    """Of a game that is won at this difference."""
    if reach is None:
        return 0.5 + 0.5 * np.sign(difference)
    return min(1.0, max(0.0, 0.5 + difference / (2 * BAND * reach)))


@pytest.mark.parametrize("reach", [None, 10.0])
def test_it_is_the_maximum_of_bradley_and_terrys_likelihood(reach: float | None) -> None:
    from sklearn.linear_model import LogisticRegression

    table = np.random.default_rng(0).normal(size=(4, 60)) + np.array([[0.0], [0.5], [1.0], [0.2]])
    found = strengths(rows(table), reach)
    games, outcomes, weights = [], [], []
    for i in range(4):
        for j in range(4):
            if i != j:
                row = np.zeros(4)
                row[i], row[j] = 1, -1
                games.append(row)
                outcomes.append(1)
                weights.append(sum(share(d, reach) for d in table[i] - table[j]) + PRIOR)
    design, sides = np.array(games + [-g for g in games]), np.array(outcomes + [0] * len(games))
    fit = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10, max_iter=5000)
    fit.fit(design, sides, sample_weight=np.array(weights * 2))
    expected = 1000 + PER_NAT * (fit.coef_[0] - fit.coef_[0].mean())
    assert [found[f"r{i}"].elo for i in range(4)] == pytest.approx(list(expected), abs=0.5)


def test_a_hair_is_no_win() -> None:
    """Two rows that differ on one prompt of ten, by less than a tenth of a point."""
    common = [50.0, 61.3, 44.2, 50.0, 50.0, 38.4, 52.5, 50.0, 47.1]
    table = np.array([[*common, 69.13], [*common, 69.21], [50.0] * 10])
    soft, hard = strengths(rows(table), 100.0), strengths(rows(table))
    assert abs(soft["r0"].elo - soft["r1"].elo) < 1
    assert abs(hard["r0"].elo - hard["r1"].elo) > 15


def test_differences_beyond_the_band_are_wins_in_full() -> None:
    table = np.array([[0.0, 30.0, 80.0, 40.0], [20.0, 10.0, 60.0, 40.0], [90.0, 50.0, 0.0, 70.0]])
    assert strengths(rows(table), 100.0) == strengths(rows(table))
    half = strengths(rows(np.array([[52.5] * 8, [50.0] * 8])), 100.0)  # three quarters of each game
    assert half["r0"].elo - half["r1"].elo == pytest.approx(PER_NAT * math.log((6 + PRIOR) / (2 + PRIOR)), abs=0.1)


@pytest.mark.slow
def test_the_truth_lies_in_the_intervals() -> None:
    rng = np.random.default_rng(1)
    # Gumbel noise makes Bradley and Terry's model true.
    truth = np.array([0.0, 0.4, 0.8])
    inside = 0
    for _ in range(60):
        found = strengths(rows(truth[:, None] + rng.gumbel(size=(3, 150))))
        for i, t in enumerate(1000 + PER_NAT * (truth - truth.mean())):
            low, high = found[f"r{i}"].ci95
            inside += low <= t <= high
    assert 0.88 <= inside / 180 <= 0.99


def test_who_wins_all_stays_finite_and_equal_rows_are_equal() -> None:
    found = strengths({"a": {"x": 2.0, "y": 2.0}, "b": {"x": 1.0, "y": 1.0}})
    assert 1000 < found["a"].elo < 1400
    assert found["a"].elo - 1000 == pytest.approx(1000 - found["b"].elo)
    assert math.isfinite(found["a"].ci95[1])
    same = strengths({"a": {"x": 1.0, "y": 2.0}, "b": {"x": 1.0, "y": 2.0}})
    assert same["a"].elo == pytest.approx(1000)


def test_only_prompts_that_all_were_scored_on_count() -> None:
    assert strengths({"a": {"x": 1.0, "y": None}, "b": {"x": 2.0, "y": 1.0}}) == {}
    assert strengths({"a": {"x": 1.0}}) == {}
    turns = strengths({"a": {"1/1": 9.0, "1/2": 1.0, "2/1": 5.0}, "b": {"1/1": 4.0, "1/2": 4.0, "2/1": 5.0}})
    assert turns["a"].elo > turns["b"].elo  # 5 to 4 on the first, a tie on the second
