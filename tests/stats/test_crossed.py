"""Differences over seeds and prompts: against an analysis of variance, the truth of simulations, and stated power."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stats.crossed import crossed, crossed_resamples
from harness.stats.power import Design, Parts, detectable, power, stderr


def drawn(rng: np.random.Generator, k: int, n: int, parts: Parts, truth: float = 0.0) -> np.ndarray:
    """Differences [k, n] with these standard deviations."""
    seeds, prompts = rng.normal(0, parts.training, (k, 1)), rng.normal(0, parts.prompts, (1, n))
    return truth + seeds + prompts + rng.normal(0, parts.rest, (k, n))


def test_the_parts_are_those_of_an_analysis_of_variance() -> None:
    k, n = 5, 60
    d = drawn(np.random.default_rng(0), k, n, Parts(3, 10, 20, 0, 100))
    of_seed, of_prompt = d.mean(1), d.mean(0)
    rest = ((d - of_seed[:, None] - of_prompt[None] + d.mean()) ** 2).sum() / (k - 1) / (n - 1)
    squares = {"seeds": n * of_seed.var(ddof=1), "prompts": k * of_prompt.var(ddof=1), "rest": rest}
    found = crossed(d.tolist(), 100.0)
    assert found.value == pytest.approx(d.mean())
    assert found.from_trainings**2 == pytest.approx(max(0, squares["seeds"] - rest) / (k * n))
    assert found.from_prompts**2 == pytest.approx(max(rest, squares["prompts"]) / (k * n))
    assert found.stderr == pytest.approx(math.hypot(found.from_trainings, found.from_prompts))
    assert found.by_seed == pytest.approx(of_seed)


@pytest.mark.parametrize("training", [0.0, 2.0, 6.0])
@pytest.mark.parametrize("k", [2, 5])
def test_a_true_null_is_rejected_no_more_often_than_is_said(k: int, training: float) -> None:
    """A test over prompts alone claims half of these."""
    rng, parts = np.random.default_rng(k), Parts(training, 10, 20, 0, 100)
    boards = [crossed(drawn(rng, k, 100, parts).tolist(), 100.0) for _ in range(400)]
    low_high = [found.interval() for found in boards]
    assert np.mean([not low <= 0 <= high for low, high in low_high]) <= 0.075


def test_predicted_power_and_error_are_those_of_simulations() -> None:
    rng, parts, design = np.random.default_rng(3), Parts(2, 8, 25, 0, 100), Design(5, 80)
    apart = 1.1 * detectable(parts, design)
    boards = [crossed(drawn(rng, design.seeds, design.prompts, parts, apart).tolist(), 100.0) for _ in range(600)]
    seen = np.mean([found.bound(0.025, -1) > 0 or found.bound(0.025, 1) < 0 for found in boards])
    assert seen == pytest.approx(power(apart, parts, design), abs=0.05)
    assert np.std([found.value for found in boards]) == pytest.approx(stderr(parts, design), rel=0.1)


def test_the_minimum_detectable_effect_has_80_percent_power() -> None:
    for design in (Design(1, 80), Design(2, 805), Design(5, 805), Design(10, 20)):
        parts = Parts(1.2, 8, 30, 0, 100)
        found = detectable(parts, design)
        assert math.isinf(found) or power(found, parts, design) == pytest.approx(0.8, abs=0.01)
    assert detectable(parts, Design(5, 805)) > detectable(parts, Design(10, 805))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 5).flatmap(
        lambda k: st.lists(
            st.lists(st.sampled_from([-100.0, -50.0, 0.0, 50.0, 100.0]), min_size=12, max_size=12),
            min_size=k,
            max_size=k,
        )
    )
)
def test_interval_and_p_value_never_disagree(d: list[list[float]]) -> None:
    found = crossed(d, 100.0)
    low, high = found.interval()
    p = found.p_value()
    if abs(p - 0.05) > 1e-4:
        assert (p < 0.05) == (not low <= 0 <= high)


def test_resamples_of_a_mean_say_what_its_values_say() -> None:
    rng = np.random.default_rng(5)
    d = drawn(rng, 4, 400, Parts(2, 10, 20, 0, 100), 3.0)
    picks = rng.integers(0, 400, (1000, 400))
    found = crossed_resamples(list(d.mean(1)), [list(row[picks].mean(1)) for row in d], 400, 100.0)
    direct = crossed(d.tolist(), 100.0)
    assert found.value == pytest.approx(direct.value)
    assert found.from_trainings == pytest.approx(direct.from_trainings, rel=0.1)
    assert found.from_prompts == pytest.approx(direct.from_prompts, rel=0.1)
    assert found.interval() == pytest.approx(direct.interval(), abs=0.4)


def test_one_seed_says_nothing_about_a_method() -> None:
    with pytest.raises(ValueError, match="1 seeds are too few"):
        crossed([[1.0, 2.0]], 100.0)
