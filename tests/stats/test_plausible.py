"""What can be drawn at random from given values, against what the bootstrap does draw."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from harness.stats.intervals import (
    RESAMPLES,
    bootstrap_indices,
    merged,
    percentile_interval,
    proportion_metric,
    stratified_weights,
)
from harness.stats.plausible import bootstrap_ends
from harness.stats.proportions import clopper_pearson, wilson
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


def drawn(prompts: list[list[float]], strata: list[str] | None = None) -> tuple[float, float]:
    """A percentile bootstrap's interval of the mean."""
    sums, counts = np.array([sum(p) for p in prompts]), np.array([len(p) for p in prompts])
    if strata is not None:
        weights = stratified_weights(merged(strata), RESAMPLES, 0)
        return percentile_interval((weights @ sums) / (weights @ counts))
    indices = bootstrap_indices(len(prompts), RESAMPLES, 0)
    return percentile_interval(sums[indices].sum(axis=1) / counts[indices].sum(axis=1))


@pytest.mark.parametrize("turns", [1, 2])
@pytest.mark.parametrize("kind", VALUES)
def test_every_bootstrap_interval_is_plausible(kind: str, turns: int) -> None:
    for n in SIZES:
        rng = random.Random(n)
        prompts = [[VALUES[kind](rng) for _ in range(turns)] for _ in range(n)]
        ends = bootstrap_ends([(sum(p), len(p)) for p in prompts])
        for x, (low, high) in zip(drawn(prompts), ends, strict=True):
            assert low - 1e-9 <= x <= high + 1e-9


@pytest.mark.parametrize("categories", [2, 8, 30])
@pytest.mark.parametrize("kind", VALUES)
def test_every_bootstrap_interval_within_strata_is_plausible_and_that_over_all_prompts_is_not(
    kind: str, categories: int
) -> None:
    for n in (40, 80, 300):
        rng = random.Random(n)
        strata = [str(i % categories) for i in range(n)]
        # Some prompts lack a turn.
        prompts = [[VALUES[kind](rng) + 20 * int(s) for _ in range(rng.choice([2, 2, 2, 1]))] for s in strata]
        pairs = [(sum(p), len(p)) for p in prompts]
        within, over_all = drawn(prompts, strata), drawn(prompts)
        for x, other, (low, high) in zip(within, over_all, bootstrap_ends(pairs, strata), strict=True):
            assert low - 1e-9 <= x <= high + 1e-9
            assert kind == "heavy" or not low <= other <= high


@pytest.mark.parametrize("n", [10, 40, 300])
def test_an_interval_of_other_values_is_not(n: int) -> None:
    rng = random.Random(0)
    values = [rng.gauss(5, 1) for _ in range(n)]
    (least, most), (_, largest) = bootstrap_ends([(v, 1) for v in values])
    low, high = drawn([[v] for v in values])
    stderr = float(stats.sem(values))
    assert not least <= low + stderr <= most
    assert high + stderr > largest
    narrow = ((low + 3 * high) / 4, (3 * low + high) / 4)
    assert not least <= narrow[1] <= most


def test_wilsons_interval_is_that_of_proportions() -> None:
    for wins in (10, 17, 40):
        metric = proportion_metric([float(i < wins) for i in range(50)])
        assert wilson(wins / 50, 50) == pytest.approx(metric.ci95)
    assert np.isfinite(wilson(0.5, 1)).all()


@pytest.mark.parametrize("n", [1, 2, 7, 40, 805, 100_000])
def test_the_exact_interval_is_scipys(n: int) -> None:
    for wins in {0, 1, n // 40, n // 3, n - 1, n}:
        theirs = stats.binomtest(wins, n).proportion_ci(method="exact")
        assert clopper_pearson(wins / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize(("share", "n"), [(0.3, 3.7), (0.001, 12.0), (0.999, 12.0), (0.02, 0.8), (0.5, 12_345.6)])
def test_of_an_effective_number_too(share: float, n: float) -> None:
    won, lost = share * n, (1 - share) * n
    expected = stats.beta.ppf(0.025, won, lost + 1), stats.beta.ppf(0.975, won + 1, lost)
    assert clopper_pearson(share, n) == pytest.approx(expected, abs=1e-9)
