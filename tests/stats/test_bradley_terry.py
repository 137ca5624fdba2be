"""Elo from who did better on each prompt: against a logistic regression, and against the truth."""

import math

import numpy as np
import pytest

from harness.stats.bradley_terry import PER_NAT, PRIOR, strengths


def rows(table: np.ndarray) -> dict[str, dict[str, float | None]]:
    return {f"r{i}": {f"q{k}": float(v) for k, v in enumerate(values)} for i, values in enumerate(table)}


def test_it_is_the_maximum_of_bradley_and_terrys_likelihood() -> None:
    from sklearn.linear_model import LogisticRegression

    table = np.random.default_rng(0).normal(size=(4, 60)) + np.array([[0.0], [0.5], [1.0], [0.2]])
    found = strengths(rows(table))
    games, outcomes, weights = [], [], []
    for i in range(4):
        for j in range(4):
            if i != j:
                row = np.zeros(4)
                row[i], row[j] = 1, -1
                games.append(row)
                outcomes.append(1)
                weights.append(float((table[i] > table[j]).sum()) + PRIOR)
    design, sides = np.array(games + [-g for g in games]), np.array(outcomes + [0] * len(games))
    fit = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10, max_iter=5000)
    fit.fit(design, sides, sample_weight=np.array(weights * 2))
    expected = 1000 + PER_NAT * (fit.coef_[0] - fit.coef_[0].mean())
    assert [found[f"r{i}"].elo for i in range(4)] == pytest.approx(list(expected), abs=0.5)


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
