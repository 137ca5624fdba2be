"""What a few systems say about another one, against scipy and by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.stats.hierarchy import interval_elsewhere, line


def test_with_exact_figures_it_is_students_interval_for_a_new_value() -> None:
    values = [61.0, 66.0, 70.0, 64.0, 72.0, 67.0, 59.0, 68.0]
    n, mean, sd = len(values), np.mean(values), np.std(values)
    # A flat prior on the spread costs one degree of freedom more than the mean does.
    reach = stats.t.ppf(0.975, n - 2) * sd * np.sqrt(n / (n - 2) * (1 + 1 / n))
    found = interval_elsewhere(values, [1e-9] * n, (0, 100))
    assert found == pytest.approx((mean - reach, mean + reach), abs=0.1)


def test_few_systems_and_limits() -> None:
    assert interval_elsewhere([60, 61, 62], [1, 1, 1], (0, 100)) is None
    assert interval_elsewhere([99, 60, 98, 99], [1, 1, 1, 1], (0, 100))[1] == 100  # type: ignore[index]
    wide, narrow = (interval_elsewhere([60, 61, 62, 61], [v] * 4, (0, 100)) for v in (100, 1))
    assert wide is not None
    assert narrow is not None
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(("systems", "spread"), [(4, 0.0), (4, 5.0), (6, 1.0), (6, 8.0), (10, 4.0)])
def test_a_new_system_lies_in_its_interval(systems: int, spread: float) -> None:
    rng = np.random.default_rng(systems)
    inside = []
    for _ in range(120):
        variances = rng.uniform(1, 25, systems)
        values = rng.normal(60, spread, systems) + rng.normal(0, np.sqrt(variances))
        low, high = interval_elsewhere(values.tolist(), variances.tolist(), (0, 100))  # type: ignore[misc]
        inside.append(low <= rng.normal(60, spread) <= high)
    assert np.mean(inside) >= 0.93


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_the_line_is_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=7), rng.normal(size=7)
    found, expected = line(x.tolist(), y.tolist()), stats.linregress(x, y)
    assert found is not None
    assert (found.slope, found.intercept) == pytest.approx((expected.slope, expected.intercept))
    reach = stats.t.ppf(0.975, 5)
    assert found.slope_interval == pytest.approx(
        (expected.slope - reach * expected.stderr, expected.slope + reach * expected.stderr)
    )
    value, low, high = found.predicted(0.3)
    residual = np.sqrt(((y - expected.intercept - expected.slope * x) ** 2).sum() / 5)
    leverage = np.sqrt(1 + 1 / 7 + (0.3 - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    assert (value - low, high - value) == pytest.approx((reach * residual * leverage,) * 2)
    assert found.predicted(0.3, variance=1.0)[1] < low
    assert found.predicted(0.3, floor=1.0)[1] < low


def test_no_line_through_one_place() -> None:
    assert line([1, 1, 1], [1, 2, 3]) is None
    assert line([1, 2], [1, 2]) is None
