"""Intervals of low rates and of few prompts: they hold, and are about as wide as the exact ones."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.stats.intervals import mean_metric, merged, proportion_metric, stratified_weights
from harness.types import Metric

PERCENT = (0.0, 100.0)
RATES = (0.026, 0.1, 0.5)
SIZES = (8, 12, 20, 44, 80, 200)
LEAST = 0.93

Draw = Callable[[np.random.Generator, int], np.ndarray]


def weighted(rate: float, strength: float) -> Draw:
    """Verdicts that a judge's probabilities weigh; `strength`: how far they are from 0 and 1."""
    return lambda rng, n: rng.beta(strength * rate, strength * (1 - rate), n)


def tied(rate: float) -> Draw:
    """Nine of ten prompts are ties."""
    return lambda rng, n: np.where(rng.random(n) < 0.9, 0.5, rng.random(n) < rate)


def covered(draw: Draw, truth: float, n: int, trials: int) -> float:
    """The share of intervals in which the true rate lies."""
    rng = np.random.default_rng(n)
    hits = 0
    for trial in range(trials):
        low, high = mean_metric(draw(rng, n).tolist(), scale=100, limits=PERCENT, seed=trial).ci95 or (1.0, 0.0)
        hits += low - 1e-9 <= 100 * truth <= high + 1e-9
    return hits / trials


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("figure", ["mean", "proportion"])
def test_rates_of_plain_verdicts_are_covered_exactly_and_intervals_are_no_wider_than_exact_ones(
    figure: str, n: int
) -> None:
    """Exact: over all numbers of wins, weighed by their probability."""
    chances = {rate: stats.binom.pmf(np.arange(n + 1), n, rate) for rate in RATES}
    inside, width, exact = dict.fromkeys(RATES, 0.0), dict.fromkeys(RATES, 0.0), dict.fromkeys(RATES, 0.0)
    for wins in range(n + 1):
        if all(chances[rate][wins] < 1e-4 for rate in RATES):
            continue
        values = [1.0] * wins + [0.0] * (n - wins)
        metric = mean_metric(values, limits=(0.0, 1.0)) if figure == "mean" else proportion_metric(values)
        low, high = metric.ci95 or (1.0, 0.0)
        theirs = stats.binomtest(wins, n).proportion_ci(method="exact")
        for rate in RATES:
            inside[rate] += chances[rate][wins] * (low <= rate <= high)
            width[rate] += chances[rate][wins] * (high - low)
            exact[rate] += chances[rate][wins] * (theirs.high - theirs.low)
    for rate in RATES:
        assert inside[rate] >= LEAST, rate
        assert width[rate] <= 1.05 * exact[rate], rate


@pytest.mark.parametrize("n", [8, 20, 44])
@pytest.mark.parametrize("rate", RATES)
def test_weighted_verdicts_and_ties_are_covered(rate: float, n: int) -> None:
    trials = 100
    noise = 2 * (0.05 * 0.95 / trials) ** 0.5
    assert covered(weighted(rate, 1.0), rate, n, trials) >= LEAST - noise
    assert covered(tied(rate), 0.45 + 0.1 * rate, n, trials) >= LEAST - noise


@pytest.mark.soak
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("rate", RATES)
def test_weighted_verdicts_and_ties_are_covered_in_many_trials(rate: float, n: int) -> None:
    trials = 2000 if n < 200 else 500
    found = {strength: covered(weighted(rate, strength), rate, n, trials) for strength in (0.3, 1.0, 3.0, 20.0)}
    found[0.0] = covered(tied(rate), 0.45 + 0.1 * rate, n, trials)
    assert min(found.values()) >= LEAST - (0.05 * 0.95 / trials) ** 0.5, found


@pytest.mark.soak
@pytest.mark.parametrize("n", SIZES)
def test_a_weak_systems_recorded_verdicts_are_covered(shared_data: Path, n: int) -> None:
    with gzip.open(shared_data / "alpaca_eval" / "recorded" / "alpaca-7b" / "annotations.json.gz") as file:
        verdicts = np.array([row["preference"] - 1 for row in json.load(file)])
    assert covered(lambda rng, size: rng.choice(verdicts, size), verdicts.mean(), n, 1000) >= LEAST - 0.007


def ratings(shared_data: Path, model: str) -> np.ndarray:
    """A model's mean rating on each MT-bench question, by category: [8, 10]."""
    with gzip.open(shared_data / "mt_bench" / "recorded" / model / "gpt-4_single.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    of_question: dict[int, list[float]] = {}
    for row in rows:
        of_question.setdefault(row["question_id"], []).append(row["score"])
    return np.array([np.mean(of_question[key]) for key in sorted(of_question)]).reshape(8, 10)


@pytest.mark.parametrize("trials", [150, pytest.param(2000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("model", ["mistral-orpo-capybara", "claude-3-opus-20240229"])
def test_ratings_of_few_questions_are_covered(shared_data: Path, model: str, trials: int) -> None:
    table, rng = ratings(shared_data, model), np.random.default_rng(0)
    for each in (1, 2, 5):
        hits = 0
        for trial in range(trials):
            drawn = np.take_along_axis(table, rng.integers(0, 10, (8, each)), axis=1)
            strata = [i for i in range(8) for _ in range(each)]
            metric = mean_metric(drawn.ravel().tolist(), strata=strata, limits=(0.0, 10.0), seed=trial)
            low, high = metric.ci95 or (1.0, 0.0)
            hits += low <= table.mean() <= high
        assert hits / trials >= LEAST - 2 * (0.05 * 0.95 / trials) ** 0.5, each


# Strata.


def test_within_strata_intervals_have_the_width_of_their_standard_error() -> None:
    """Also of small strata, of which a bootstrap with as many draws as prompts has too little variance."""
    rng = np.random.default_rng(0)
    strata = [str(i % 20) for i in range(60)]
    values = [5 * float(s) + float(rng.normal()) for s in strata]
    metric = mean_metric(values, strata=strata)
    low, high = metric.ci95 or (0.0, 0.0)
    assert metric.stderr is not None
    assert (high - low) / 2 / 1.96 == pytest.approx(metric.stderr, rel=0.06)
    assert metric.stderr < 0.1 * (mean_metric(values).stderr or 0.0)


def test_weights_within_strata_are_those_of_rao_and_wu() -> None:
    strata = ["a"] * 2 + ["b"] * 3 + ["c"] * 10
    weights = stratified_weights(strata, 4000, 0)
    for stratum, size in (("a", 2), ("b", 3), ("c", 10)):
        own = weights[:, [s == stratum for s in strata]]
        assert own.sum(axis=1) == pytest.approx(np.full(4000, size))
    values = np.random.default_rng(1).normal(size=15)
    expected = sum(
        np.var([v for v, s in zip(values, strata, strict=True) if s == t], ddof=1) * strata.count(t) for t in "abc"
    )
    assert np.var(weights @ values) == pytest.approx(expected, rel=0.1)


def test_prompts_alone_in_their_stratum_share_one() -> None:
    assert merged(["a", "b", "c", "a"]) == ["a", "b", "b", "a"]
    assert merged(["a", "b", "a"]) == ["a"] * 3
    assert merged(["a", "a", "a", "b", "b", "c"]) == ["a", "a", "a", "b", "b", "b"]
    assert len(set(merged(list("abcdef")))) == 1
    values = [float(i % 7) for i in range(60)]
    alone, together = mean_metric(values, strata=range(60)), mean_metric(values)
    assert alone.stderr == pytest.approx(together.stderr)
    assert isinstance(alone, Metric)
    assert (alone.ci95 or (0.0,))[0] < (alone.value or 0.0)
