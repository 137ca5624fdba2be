"""A calibration's figures against scikit-learn's, and their intervals by instruction."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, roc_auc_score

from harness.judging.calibration.figures import JudgedPair, calibration_figures
from harness.stats.agreement import kendall_tau
from tests.judging.calibration.helpers import random_pairs, rates


def single(pairs: list[JudgedPair]) -> tuple[list[bool], list[float]]:
    """Labels and verdicts of both orders, without recorded ties and what was not had."""
    rows = [(p.won, v) for side in ("plain", "switched") for p in pairs if (v := getattr(p, side)) is not None]
    return [won > 0.5 for won, _ in rows if won != 0.5], [v for won, v in rows if won != 0.5]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.2]))
def test_figures_are_scikit_learns(seed: int, invalid: float) -> None:
    pairs = random_pairs(60, seed, invalid=invalid, ties=False)
    found = calibration_figures(pairs, rates(pairs), resamples=2)
    labels, verdicts = single(pairs)
    claimed = [v > 0.5 for v in verdicts]
    assert found["agreement"].value == pytest.approx(100 * np.mean(np.array(labels) == claimed))
    assert found["balanced_agreement"].value == pytest.approx(100 * balanced_accuracy_score(labels, claimed))
    assert found["cohen_kappa"].value == pytest.approx(cohen_kappa_score(labels, claimed))
    assert found["auc"].value == pytest.approx(roc_auc_score(labels, verdicts))
    assert found["agreement"].n == 120 - sum(p.plain is None for p in pairs) - sum(p.switched is None for p in pairs)
    assert found["agreement"].n + found["agreement"].n_invalid == 120


def test_the_board_is_regressed_on_the_official_one() -> None:
    pairs = random_pairs(300, systems=6)
    official = {f"s{i}": 10.0 * i for i in range(6)}
    found = calibration_figures(pairs, official, resamples=2)
    own = []
    for system in official:
        said = [v for p in pairs if p.system == system for v in (p.plain, p.switched) if v is not None]
        own.append(100 * float(np.mean(said)))
    expected = linregress(list(official.values()), own)
    assert found["board_slope"].value == pytest.approx(expected.slope)
    assert found["board_offset"].value == pytest.approx(expected.intercept)
    assert found["board_kendall_tau"].value == pytest.approx(kendall_tau(list(official.values()), own))
    same = calibration_figures(pairs, {s: 3 * v + 1 for s, v in official.items()}, resamples=2)
    assert same["board_kendall_tau"].value == found["board_kendall_tau"].value


def test_within_systems_only_pairs_of_one_system_are_compared() -> None:
    """A judge that knows nothing but which system is the good one: far above chance over all, and chance within."""
    rng = random.Random(1)
    pairs = []
    for i in range(600):
        good = i % 2
        said = 0.9 if good else 0.1
        won = 0.99 if rng.random() < (0.8 if good else 0.1) else 0.01
        pairs.append(JudgedPair(str(good), str(i), won, said, said, 10, 20))
    found = calibration_figures(pairs, rates(pairs))
    assert found["auc_within_systems"].value == 0.5
    assert found["auc"].value is not None
    assert found["auc"].value > 0.8


def test_the_judge_itself_agrees_with_itself() -> None:
    pairs = [p._replace(plain=p.won, switched=p.won) for p in random_pairs(200)]
    found = calibration_figures(pairs, rates(pairs))
    for name in ("agreement", "balanced_agreement", "consistency"):
        assert found[name].value == 100
    assert found["auc"].value == found["cohen_kappa"].value == found["board_kendall_tau"].value == 1
    assert found["board_slope"].value == pytest.approx(1)
    assert found["board_offset"].value == pytest.approx(0, abs=1e-9)
    assert found["length_bias"].value == 0
    assert found["first_preferred"].value == pytest.approx(50)


def test_a_judge_that_takes_the_first_has_no_consistency_and_knows_nothing() -> None:
    pairs = [p._replace(plain=0.2, switched=0.8) for p in random_pairs(200)]
    found = calibration_figures(pairs, rates(pairs))
    assert found["first_preferred"].value == 100
    assert found["consistency"].value == 0
    assert found["balanced_agreement"].value == pytest.approx(50)
    assert found["both_orders_balanced_agreement"].value == pytest.approx(50)


def test_a_judge_that_takes_the_longer_gains_nothing_over_that() -> None:
    pairs = []
    for p in random_pairs(200):
        verdict = 0.9 if p.length > p.reference_length else 0.1
        pairs.append(p._replace(plain=verdict, switched=verdict))
    found = calibration_figures(pairs, rates(pairs))
    assert found["longer_preferred"].value == 100
    assert found["gain_over_longer"].value == 0
    assert found["gain_over_longer"].ci95 == (0, 0)
    assert found["balanced_agreement"] == found["longer_balanced_agreement"]


def test_more_verdicts_on_the_same_instructions_are_no_narrower_interval() -> None:
    pairs = random_pairs(120, ties=False)
    few, many = calibration_figures(pairs, rates(pairs)), calibration_figures(pairs * 4, rates(pairs))
    for name in ("balanced_agreement", "auc", "cohen_kappa"):
        assert many[name].value == pytest.approx(few[name].value)
        assert many[name].ci95 == pytest.approx(few[name].ci95, abs=1e-9)


@pytest.mark.slow
def test_the_interval_covers_what_it_says() -> None:
    """Over 60 samples from one population, the true balanced agreement lies in most of their intervals."""
    everything = random_pairs(4000, seed=9, ties=False)
    labels, verdicts = single(everything)
    truth = 100 * balanced_accuracy_score(labels, [v > 0.5 for v in verdicts])
    inside = 0
    for i in range(40):
        drawn = everything[100 * i : 100 * (i + 1)]
        ci95 = calibration_figures(drawn, rates(drawn), resamples=300)["balanced_agreement"].ci95
        assert ci95 is not None
        inside += ci95[0] <= truth <= ci95[1]
    assert inside >= 34


def test_where_nothing_can_be_said_there_is_no_number() -> None:
    one_sided = [JudgedPair("s", f"q{i}", 0.1, 0.2, 0.3, 5, 5) for i in range(10)]
    found = calibration_figures(one_sided, {"s": 10.0})
    for name in ("balanced_agreement", "auc", "auc_within_systems", "board_slope", "longer_preferred", "length_bias"):
        assert found[name].value is None, name
    assert found["agreement"].value == 100
    silent = [p._replace(plain=None, switched=None) for p in one_sided]
    found = calibration_figures(silent, {"s": 10.0})
    assert all(metric.value is None for metric in found.values())
    assert found["agreement"].n_invalid == 20
