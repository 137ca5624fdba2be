import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stats import intervals
from harness.stats.agreement import kendall_tau
from harness.stats.intervals import (
    DIFFERENT,
    ENOUGH,
    RESAMPLES,
    accuracy_metric,
    bootstrap_indices,
    mean_metric,
    proportion_metric,
    ratio_metric,
    spread,
)
from harness.types import Metric

values = st.lists(st.one_of(st.none(), st.floats(-100, 100)), max_size=30)


def test_mean_and_its_standard_error_are_scipys() -> None:
    x = [1.0, 4.0, 2.5, 9.0, 0.25]
    metric = mean_metric([x[0], None, *x[1:]])
    assert metric.value == pytest.approx(np.mean(x))
    assert metric.stderr == pytest.approx(scipy.stats.sem(x))
    assert (metric.n, metric.n_invalid) == (5, 1)


def test_interval_is_scipys_percentile_bootstrap_up_to_the_draws() -> None:
    x = np.random.default_rng(3).gamma(2.0, size=200)
    ours = mean_metric(list(x), seed=1).ci95
    theirs = scipy.stats.bootstrap((x,), np.mean, n_resamples=20_000, method="percentile", rng=5).confidence_interval
    assert ours is not None
    width = theirs.high - theirs.low
    assert ours[0] == pytest.approx(theirs.low, abs=width * 0.08)
    assert ours[1] == pytest.approx(theirs.high, abs=width * 0.08)


def test_interval_is_the_percentiles_of_the_resampled_means() -> None:
    x = np.random.default_rng(4).normal(size=60)
    means = x[bootstrap_indices(60, RESAMPLES, 7)].mean(axis=1)
    assert mean_metric(list(x), seed=7).ci95 == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))


@pytest.mark.parametrize("at_once", [1, 130, 4999])
def test_resamples_drawn_in_parts_are_those_drawn_at_once(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Memory is that of a part, and the figures are the same to the digit."""
    monkeypatch.setattr(intervals, "AT_ONCE", at_once)
    x = np.random.default_rng(5).normal(size=61)
    means = x[bootstrap_indices(61, RESAMPLES, 3)].sum(axis=1) / 61
    assert mean_metric(x.tolist(), seed=3).ci95 == tuple(np.percentile(means, [2.5, 97.5]))


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = mean_metric(list(rng.normal(size=60)), seed=trial).ci95 or (math.nan, math.nan)
        hits += low <= 0 <= high
    assert 0.90 <= hits / 200 <= 0.98


def test_prompts_of_one_value_each_are_the_ungrouped_case() -> None:
    x = [0.5, 2.0, None, 7.0, 3.5]
    assert mean_metric(x, groups=["a", "b", "c", "d", "e"]) == mean_metric(x)


def test_grouped_standard_error_is_that_of_prompt_means_for_equal_sizes() -> None:
    pairs = np.random.default_rng(1).normal(size=(40, 2)) + np.random.default_rng(2).normal(size=(40, 1)) * 3
    metric = mean_metric(list(pairs.ravel()), groups=[i // 2 for i in range(80)])
    assert metric.n == 40
    assert metric.stderr == pytest.approx(scipy.stats.sem(pairs.mean(axis=1)))
    assert metric.stderr > 1.2 * mean_metric(list(pairs.ravel())).stderr  # type: ignore[operator]


def test_a_group_whose_values_are_all_missing_takes_no_part() -> None:
    whole = mean_metric([1.0, 2.0, 5.0], groups=["a", "a", "b"])
    gappy = mean_metric([1.0, 2.0, 5.0, None], groups=["a", "a", "b", "c"])
    assert (gappy.value, gappy.stderr, gappy.ci95) == (whole.value, whole.stderr, whole.ci95)
    assert gappy.n_invalid == 1


@pytest.mark.parametrize("x", [[], [None], [2.0], [2.0, None]])
def test_too_few_values_have_no_uncertainty(x: list[float | None]) -> None:
    metric = mean_metric(x)
    assert metric.stderr is None
    assert metric.ci95 is None
    assert metric.value == (2.0 if 2.0 in x else None)


def test_one_prompt_of_many_values_has_no_uncertainty() -> None:
    assert mean_metric([1.0, 2.0, 3.0], groups=["a"] * 3).ci95 is None


@given(values, st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_deterministic_scaled_and_counted(x: list[float | None], seed: int) -> None:
    metric = mean_metric(x, seed=seed)
    assert metric == mean_metric(x, seed=seed)
    assert metric.n + metric.n_invalid == len(x)
    scaled = mean_metric(x, seed=seed, scale=100)
    if metric.value is not None:
        assert scaled.value == pytest.approx(100 * metric.value, abs=1e-6)
    if metric.ci95 is not None:
        assert metric.ci95[0] <= (metric.value or 0.0) + 1e-9
        assert metric.ci95[1] >= (metric.value or 0.0) - 1e-9
        assert scaled.ci95 == pytest.approx((100 * metric.ci95[0], 100 * metric.ci95[1]), abs=1e-6)


def test_few_without_limits_have_students_interval() -> None:
    x = [3.0, 1.0, 4.0, 1.0, 5.0]
    assert mean_metric(x).ci95 == pytest.approx(scipy.stats.t.interval(0.95, 4, np.mean(x), scipy.stats.sem(x)))


@given(st.integers(0, 40), st.integers(0, 40))
@settings(deadline=None, max_examples=40)
def test_proportion_is_scipys_exact_interval_or_with_enough_of_both_wilsons(hits: int, misses: int) -> None:
    metric = proportion_metric([True] * hits + [None] * 2 + [False] * misses, scale=100)
    assert (metric.n, metric.n_invalid) == (hits + misses, 2)
    if hits + misses:
        method = "wilson" if hits + misses >= ENOUGH and min(hits, misses) >= DIFFERENT else "exact"
        theirs = scipy.stats.binomtest(hits, hits + misses).proportion_ci(method=method)
        assert metric.value == pytest.approx(100 * hits / (hits + misses))
        assert metric.ci95 == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1e-9)
    if hits + misses > 1:
        assert metric.stderr == pytest.approx(100 * scipy.stats.sem([1] * hits + [0] * misses))


def test_ties_are_half_a_success_each() -> None:
    metric = proportion_metric([1.0, 0.5, 0.5, 0.0])
    assert metric.value == 0.5
    assert metric.ci95 == pytest.approx(proportion_metric([True, True, False, False]).ci95)


def test_proportion_of_nothing() -> None:
    assert proportion_metric([None]).value is None
    assert accuracy_metric([1.0, 0.0, None]) == proportion_metric([1.0, 0.0, None])
    ties = accuracy_metric([0.5] * 9)
    assert (ties.value, ties.stderr, ties.ci95, ties.n) == (0.5, None, None, 9)
    some = accuracy_metric([0.5, 1.0, 1.0, 0.0, 1.0, 1.0])
    assert some.value == pytest.approx(0.75)
    assert some.ci95 is not None
    assert some.ci95[0] < 0.75 < some.ci95[1]
    assert proportion_metric([]).ci95 is None


def test_kendall_tau_with_ties_and_without_a_ranking() -> None:
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    # tau-b by hand: 4 concordant, 1 discordant, one tie in the second: (4 - 1) / sqrt(6 * 5).
    assert kendall_tau([1, 2, 3, 4], [1, 3, 2, 3]) == pytest.approx(3 / math.sqrt(30))
    assert kendall_tau([1, 1, 1], [1, 2, 3]) is None
    assert kendall_tau([1], [2]) is None


@given(values)
def test_spread_is_numpys_over_what_there_is(x: list[float | None]) -> None:
    known = [value for value in x if value is not None]
    found = spread(x)
    assert (found.n, found.n_invalid) == (len(known), len(x) - len(known))
    assert found.mean == (pytest.approx(np.mean(known)) if known else None)
    assert found.sd == (pytest.approx(np.std(known, ddof=1), abs=1e-9) if len(known) > 1 else None)


def test_a_ratio_of_means_and_its_interval_are_scipys() -> None:
    rng = np.random.default_rng(0)
    wholes = rng.normal(3, 1, 60)
    parts = 0.5 * wholes + rng.normal(0, 0.2, 60)
    ours = ratio_metric(list(parts), list(wholes))
    theirs = scipy.stats.bootstrap(
        (parts, wholes), lambda p, w, axis: p.mean(axis) / w.mean(axis), paired=True, method="percentile", rng=rng
    ).confidence_interval
    assert (ours.value, ours.n, ours.stderr) == (pytest.approx(parts.mean() / wholes.mean()), 60, None)
    assert ours.ci95 == pytest.approx(tuple(theirs), abs=0.01)


def test_a_ratio_to_what_may_be_0_has_no_interval() -> None:
    wholes = [-1.0, 1.5, -0.5, 0.2]
    ours = ratio_metric([1.0, 2.0, 3.0, 4.0], wholes)
    assert (ours.value, ours.ci95) == (pytest.approx(50), None)
    assert ratio_metric([1.0, 2.0], [1.0, -1.0]).value is None
    assert ratio_metric([], []).value is None
    assert ratio_metric([1.0], [2.0]) == Metric(value=0.5, n=1)
