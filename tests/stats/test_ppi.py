"""Prediction-powered inference against its formulas, its own software's figures, and the truth in simulations."""

import random
from statistics import fmean, stdev

import pytest

from harness.stats.ppi import FEWEST_LABELS, Corrected, Estimate, corrected_difference, corrected_rate

WIDE = (-1000.0, 1000.0)


def drawn(n: int, m: int, noise: float, seed: int, scale: float = 1.0) -> tuple[list[float], list[float | None]]:
    """A judge's values for n prompts, and labels for m: gold is a coin that the judge sees with noise."""
    rng = random.Random(seed)
    gold = [100.0 * (rng.random() < 0.3) for _ in range(n)]
    judge = [scale * (y + rng.gauss(0, noise)) for y in gold]
    labelled = set(rng.sample(range(n), m))
    return judge, [y if i in labelled else None for i, y in enumerate(gold)]


def test_it_is_the_regression_estimate_of_two_phase_sampling() -> None:
    """Cochran (1977), section 12.6, with the slope of the paper: the variance of f is that on all prompts."""
    judge, gold = drawn(800, 200, 30, 1)
    rows = [(f, y) for f, y in zip(judge, gold, strict=True) if y is not None]
    n, m, xs, ys = len(judge), len(rows), [f for f, _ in rows], [y for _, y in rows]
    slope = sum((x - fmean(xs)) * (y - fmean(ys)) for x, y in rows) / (m - 1) / stdev(judge) ** 2
    value = fmean(ys) + slope * (fmean(judge) - fmean(xs))
    residuals = [y - slope * x for x, y in rows]
    variance = (1 / m - 1 / n) * stdev(residuals) ** 2 + stdev(ys) ** 2 / n
    result = corrected_rate(judge, gold, (0.0, 100.0))
    assert result.corrected is not None
    assert result.corrected.value == pytest.approx(
        value, abs=0.1 * variance**0.5
    )  # cross-fitting moves it by a share of 1 / m
    assert result.corrected.stderr == pytest.approx(variance**0.5, rel=0.02)
    assert result.weight == pytest.approx(slope, rel=0.01)


@pytest.mark.parametrize(
    ("noise", "estimate", "low", "high"),
    [
        (15, 30.422688914789266, 26.900855502893727, 33.944522326684805),
        (40, 31.837684673288805, 27.19108096632097, 36.484288380256636),
        (90, 32.49008657835078, 26.777962501660685, 38.20221065504087),
    ],
)
def test_it_agrees_with_the_papers_software(noise: float, estimate: float, low: float, high: float) -> None:
    """`ppi_mean_pointestimate` and `ppi_mean_ci` of ppi-python 0.2.3, with the 600 other prompts as its unlabelled
    sample. Its interval is the normal one, ours counts what 200 prompts have not shown."""
    result = corrected_rate(*drawn(800, 200, noise, 11), (0.0, 100.0))
    assert result.corrected is not None
    assert result.corrected.value == pytest.approx(estimate, abs=0.2)
    assert 1.96 * result.corrected.stderr == pytest.approx((high - low) / 2, rel=0.04)
    assert result.corrected.ci95 == pytest.approx((low, high), abs=0.6)


@pytest.mark.parametrize("scale", [0.01, 1.0, 7.0])
def test_a_judge_on_another_scale_is_worth_as_much(scale: float) -> None:
    plain, gold = drawn(400, 80, 30, 2)
    other, _ = drawn(400, 80, 30, 2, scale)
    one, two = (corrected_rate([x + shift for x in f], gold, (0.0, 100.0)) for f, shift in ((plain, 0.0), (other, 9.0)))
    assert one.corrected is not None
    assert two.corrected is not None
    assert two.corrected.value == pytest.approx(one.corrected.value)
    assert two.corrected.ci95 == pytest.approx(one.corrected.ci95)
    assert two.weight * scale == pytest.approx(one.weight)


def test_all_prompts_labelled_leave_nothing_to_the_judge() -> None:
    judge, gold = drawn(200, 200, 10, 3)
    result = corrected_rate(judge, gold, (0.0, 100.0))
    assert result.best.value == pytest.approx(fmean(y for y in gold if y is not None))
    assert result.labelled.ci95_here == (result.labelled.value, result.labelled.value)
    assert result.corrected is None or result.corrected.ci95 == pytest.approx(result.labelled.ci95, abs=0.5)


@pytest.mark.parametrize(
    ("judge", "reason"),
    [
        ("noise", "adds nothing: its correlation"),
        ("reversed", "adds nothing: its correlation"),
        ("constant", "all the same"),
    ],
)
def test_a_judge_that_is_no_help_is_not_used(judge: str, reason: str) -> None:
    good, gold = drawn(400, 60, 20, 4)
    rng = random.Random(5)
    values = {"noise": [rng.random() for _ in good], "reversed": [-x for x in good], "constant": [1.0] * 400}[judge]
    result = corrected_rate(values, gold, (0.0, 100.0))
    assert result.corrected is None
    assert reason in (result.why_not or "")
    assert result.best == result.labelled
    assert result.worth == result.labels == 60


def test_few_labels() -> None:
    judge, gold = drawn(400, FEWEST_LABELS - 1, 20, 6)
    few = corrected_rate(judge, gold, (0.0, 100.0))
    assert few.corrected is None
    assert "too few to tell what the judge is worth" in (few.why_not or "")
    assert few.labelled.ci95 is not None
    _, gold = drawn(400, 5, 20, 6)
    assert corrected_rate(judge, gold, (0.0, 100.0)).best.ci95 is None
    with pytest.raises(ValueError, match="too few for an estimate"):
        corrected_rate(judge, [1.0] + [None] * 399, (0.0, 100.0))
    with pytest.raises(ValueError, match="expected one for each"):
        corrected_rate(judge, gold[:-1], (0.0, 100.0))


def test_verdicts_that_the_judge_did_not_give_cost_precision_only() -> None:
    judge, gold = drawn(600, 100, 10, 7)
    holes = [None if i % 7 == 0 else x for i, x in enumerate(judge)]
    whole, torn = (corrected_rate(f, gold, (0.0, 100.0)) for f in (judge, holes))
    assert torn.prompts == whole.prompts
    assert whole.corrected is not None
    assert torn.corrected is not None
    assert torn.corrected.stderr > whole.corrected.stderr
    assert abs(torn.corrected.value - whole.corrected.value) < 2 * torn.corrected.stderr


def _hits(results: list[Corrected], truth: float, here: list[float] | None = None) -> tuple[float, float]:
    """Shares of the intervals, about the population and about the prompts, that cover the truth."""
    whole = [low <= truth <= high for low, high in (r.best.ci95 for r in results if r.best.ci95)]
    these = [(r.best.ci95_here, t) for r, t in zip(results, here or [truth] * len(results), strict=True)]
    return fmean(whole), fmean(ci[0] <= t <= ci[1] for ci, t in these if ci)


@pytest.mark.parametrize(("rate", "noise"), [(0.5, 40.0), (0.3, 15.0), (0.04, 15.0)])
def test_intervals_cover_as_often_as_they_say(rate: float, noise: float) -> None:
    rng, results, here = random.Random(8), [], []
    for _ in range(250):
        gold = [100.0 * (rng.random() < rate) for _ in range(300)]
        judge = [y + rng.gauss(0, noise) for y in gold]
        labelled = set(rng.sample(range(300), 60))
        results.append(corrected_rate(judge, [y if i in labelled else None for i, y in enumerate(gold)], (0.0, 100.0)))
        here.append(fmean(gold))
    whole, these = _hits(results, 100 * rate, here)
    assert whole >= 0.93 - 0.02  # less than two standard errors of 250 samples
    assert these >= 0.93 - 0.02
    assert _width([r.best for r in results]) < _width([r.labelled for r in results])


def _width(estimates: list[Estimate]) -> float:
    return fmean(high - low for low, high in (e.ci95 for e in estimates if e.ci95))


def test_differences_of_rows_are_paired() -> None:
    """Two rows on the same labelled prompts: what they have in common drops out, for the labels and for the judge."""
    rng = random.Random(9)
    common = [100.0 * (rng.random() < 0.4) for _ in range(400)]
    rows = [[x if rng.random() < 0.7 else 100.0 * (rng.random() < 0.5 + by) for x in common] for by in (-0.2, 0.3)]
    judged = [[x + rng.gauss(0, 15) for x in row] for row in rows]
    labelled = set(rng.sample(range(400), 80))

    def on_labelled(values: list[float]) -> list[float | None]:
        return [x if i in labelled else None for i, x in enumerate(values)]

    differences, judged_differences = ([b - a for a, b in zip(*both, strict=True)] for both in (rows, judged))
    result = corrected_difference(judged_differences, on_labelled(differences), (-100.0, 100.0))
    assert result.corrected is not None
    assert result.corrected.ci95 is not None
    low, high = result.corrected.ci95
    assert low < fmean(differences) < high
    assert high - low < _width([result.labelled])
    assert result.worth > 1.5 * result.labels
    alone = [corrected_rate(f, on_labelled(y), (0.0, 100.0)).best.stderr for f, y in zip(judged, rows, strict=True)]
    assert result.corrected.stderr < (alone[0] ** 2 + alone[1] ** 2) ** 0.5
