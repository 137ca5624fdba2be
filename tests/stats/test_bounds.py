"""Bounds of means: against exact distributions, Student's t, McNemar's test, and against themselves."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.stats.bounds import mean_of


def events(n: int, losses: int, wins: int = 0) -> list[float]:
    """Differences in percent points: so many prompts lost and won, all others tied."""
    return [-100.0] * losses + [100.0] * wins + [0.0] * (n - losses - wins)


@pytest.mark.parametrize("tail", [0.025, 0.05, 0.1])
@pytest.mark.parametrize("losses", [0, 1, 2, 5, 20])
def test_bounds_of_rare_events_are_those_of_the_exact_distribution(losses: int, tail: float) -> None:
    n = 2000
    exact = stats.gamma.ppf(1 - tail, losses + 1)  # Garwood 1936: upper bound of a Poisson mean, in events
    found = -mean_of(events(n, losses), 100.0).bound(tail, -1) * n / 100
    assert found == pytest.approx(exact, abs=0.15, rel=0.01)


@pytest.mark.parametrize(("wins", "losses"), [(5, 0), (6, 0), (7, 0), (8, 1), (10, 2), (12, 3), (30, 14), (15, 4)])
def test_p_values_of_pairs_are_mcnemars(wins: int, losses: int) -> None:
    exact = stats.binomtest(wins, wins + losses).pvalue
    found = mean_of(events(805, losses, wins), 100.0).p_value()
    assert found == pytest.approx(exact, rel=0.3)
    assert (found < 0.05) == (exact < 0.05)


def test_with_many_values_they_are_students() -> None:
    values = np.random.default_rng(0).normal(2, 30, 3000)
    found = mean_of(list(values), 100.0)
    assert found.stderr == pytest.approx(stats.sem(values))
    expected = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    assert found.interval() == pytest.approx(expected, abs=0.02)
    assert found.p_value() == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=0.05)


def test_a_constant_proves_little_until_there_is_much_of_it() -> None:
    low, high = mean_of([50.0] * 12, 100.0).interval()
    assert low < 30
    assert high > 50
    assert mean_of([0.0] * 12, 100.0).p_value() == 1.0
    low, high = mean_of([50.0] * 5000, 100.0).interval()
    assert 49.5 < low < 50 < high < 50.5


def test_only_the_variance_within_strata_counts() -> None:
    rng = np.random.default_rng(1)
    strata = [str(i % 8) for i in range(80)]
    values = [float(3 * int(s) + rng.normal()) for s in strata]
    found = mean_of(values, 10.0, 0.0, strata)
    within = [np.var([v for v, t in zip(values, strata, strict=True) if t == s], ddof=1) for s in set(strata)]
    assert found.stderr == pytest.approx(math.sqrt(np.mean(within) / 80))
    assert found.degrees == 72
    assert found.stderr < 0.3 * mean_of(values, 10.0).stderr
    alone = [*strata[:-2], "only", "this"]
    assert mean_of(values, 10.0, 0.0, alone).degrees == 80 - 9


differences = st.lists(st.sampled_from([-100.0, -50.0, -3.5, 0.0, 1.0, 20.0, 100.0]), min_size=2, max_size=60)


@settings(max_examples=200, deadline=None)
@given(differences, st.sampled_from([-20.0, -2.0, 0.0, 5.0]), st.sampled_from([0.01, 0.05, 0.2]))
def test_interval_and_p_value_never_disagree(values: list[float], null: float, level: float) -> None:
    mean = mean_of(values, 100.0)
    low, high = mean.interval(1 - level)
    p = mean.p_value(null)
    if not math.isclose(p, level, rel_tol=1e-6):
        assert (p < level) == (not low <= null <= high)


@settings(max_examples=100, deadline=None)
@given(differences)
def test_turned_around_they_are_the_same(values: list[float]) -> None:
    one, other = mean_of(values, 100.0), mean_of([-x for x in values], 100.0)
    low, high = one.interval()
    assert other.interval() == pytest.approx((-high, -low), abs=1e-9)
    assert other.p_value(-1.0) == pytest.approx(one.p_value(1.0), abs=1e-9)


def test_one_prompt_is_too_few() -> None:
    with pytest.raises(ValueError, match="1 prompts are too few"):
        mean_of([1.0], 100.0)


@pytest.mark.parametrize("size", [0.5, 1.0, 50.0])
def test_p_values_lose_no_digits_where_values_are_all_but_symmetrical(size: float) -> None:
    """At the tail of half the p value the bound is the null itself, however little skewness rounding has left."""
    for n in range(8, 120, 2):
        for losses in range(n // 2):
            mean = mean_of([size] * (losses + 1) + [-size] * losses + [0.0] * (n - 2 * losses - 1), size)
            p = mean.p_value()
            assert (p < 0.9) == (mean.bound(0.45, -1) > 0), (n, losses)
            if p < 0.999:
                assert mean.bound(p / 2, -1) == pytest.approx(0, abs=1e-6 * size), (n, losses)
