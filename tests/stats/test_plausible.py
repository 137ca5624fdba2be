"""What can be drawn at random from given values, against what the bootstrap and the sign-flip test do draw."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from harness.stats.intervals import mean_metric, proportion_metric
from harness.stats.paired import compare
from harness.stats.plausible import bootstrap_ends, sign_flip_range, wilson
from harness.stats.student import quantile, upper_tail

SIZES = (2, 3, 4, 6, 7, 10, 40, 300)
VALUES: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda rng: rng.gauss(0, 1),
    "rare": lambda rng: float(rng.random() < 0.1),
    "ratings": lambda rng: float(rng.randint(1, 10)),
    "heavy": lambda rng: rng.paretovariate(1.0),
}


@pytest.mark.parametrize("degrees", [1, 2, 9, 39, 804, 100_000])
def test_students_t_is_scipys(degrees: int) -> None:
    for t in (-3.0, 0.0, 0.1, 1.0, 2.0, 8.0, 30.0):
        assert upper_tail(t, degrees) == pytest.approx(stats.t.sf(t, degrees), rel=1e-9)
    for p in (0.001, 0.3, 0.5, 0.8, 0.975, 0.9999):
        assert quantile(p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("turns", [1, 2])
@pytest.mark.parametrize("kind", VALUES)
def test_every_bootstrap_interval_is_plausible(kind: str, turns: int) -> None:
    for n in SIZES:
        rng = random.Random(n)
        prompts = [[VALUES[kind](rng) for _ in range(turns)] for _ in range(n)]
        metric = mean_metric([v for p in prompts for v in p], groups=[i for i in range(n) for _ in range(turns)])
        assert metric.ci95 is not None
        ends = bootstrap_ends([(sum(p), len(p)) for p in prompts])
        for x, (low, high) in zip(metric.ci95, ends, strict=True):
            assert low - 1e-9 <= x <= high + 1e-9


@pytest.mark.parametrize("n", [10, 40, 300])
def test_an_interval_of_other_values_is_not(n: int) -> None:
    rng = random.Random(0)
    values = [rng.gauss(5, 1) for _ in range(n)]
    (least, most), (_, largest) = bootstrap_ends([(v, 1) for v in values])
    metric = mean_metric(values)
    assert metric.ci95 is not None
    assert metric.stderr is not None
    low, high = metric.ci95
    assert not least <= low + metric.stderr <= most
    assert high + metric.stderr > largest
    narrow = ((low + 3 * high) / 4, (3 * low + high) / 4)
    assert not least <= narrow[1] <= most


def test_the_sign_flip_tests_p_is_plausible_and_another_is_not() -> None:
    for kind, n in ((kind, n) for kind in ("normal", "rare", "ratings") for n in SIZES):
        rng = random.Random(n)
        first, second = ([VALUES[kind](rng) + shift for _ in range(n)] for shift in (0.2, 0))
        rows = {name: {str(i): v for i, v in enumerate(vs)} for name, vs in (("a", first), ("b", second))}
        (comparison,) = compare(rows)
        low, high = sign_flip_range([(x - y) / n for x, y in zip(first, second, strict=True)], comparison.stderr)
        assert low <= comparison.p <= high, (kind, n)
        if n >= 40 and comparison.p > 0.1:
            assert not low <= comparison.p / 20 <= high


def test_wilsons_interval_is_that_of_proportions() -> None:
    for wins in (0, 1, 7, 10):
        metric = proportion_metric([float(i < wins) for i in range(10)])
        assert wilson(wins / 10, 10) == pytest.approx(metric.ci95)
    assert np.isfinite(wilson(0.5, 1)).all()
