"""A calibration's figures: per system those of scikit-learn, averaged over systems, with two kinds of intervals."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from harness.judging.calibration.averages import CalibrationFigure
from harness.judging.calibration.figures import (
    JudgedPair,
    agreement_within,
    arranged,
    auc,
    calibration_figures,
)
from harness.stats.agreement import kendall_tau
from tests.judging.calibration.helpers import random_pairs, rates


def figures(pairs: list[JudgedPair], resamples: int = 100) -> dict[str, CalibrationFigure]:
    return calibration_figures(arranged(pairs, resamples), rates(pairs))


def by_system(pairs: list[JudgedPair]) -> list[list[JudgedPair]]:
    return [[p for p in pairs if p.system == system] for system in sorted({p.system for p in pairs})]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.2]))
def test_figures_are_scikit_learns_in_the_mean_over_systems(seed: int, invalid: float) -> None:
    pairs = random_pairs(90, seed, invalid=invalid, ties=False)
    found = figures(pairs, 2)
    aucs, accuracies = [], []
    for own in by_system(pairs):
        both = [
            (p.won > 0.5, (p.plain + p.switched) / 2) for p in own if p.plain is not None and p.switched is not None
        ]
        aucs.append(roc_auc_score(*zip(*both, strict=True)))
        single = [(p.won > 0.5, v > 0.5) for p in own for v in (p.plain, p.switched) if v is not None]
        accuracies.append(balanced_accuracy_score(*zip(*single, strict=True)))
    # Systems with as many wins and losses as each other count alike, but for noise.
    assert found["agreement"].value == pytest.approx(100 * np.mean(aucs), abs=4)
    assert found["balanced_agreement"].value == pytest.approx(100 * np.mean(accuracies), abs=4)
    missing = sum((p.plain is None) + (p.switched is None) for p in pairs)
    assert (found["agreement"].n, found["agreement"].n_invalid) == (180 - missing, missing)
    assert agreement_within(arranged(by_system(pairs)[0], 1).systems["s0"]) == pytest.approx(100 * aucs[0])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_a_resamples_agreement_is_that_of_its_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label, score = rng.random(30) < 0.4, rng.integers(0, 6, 30) / 5
    weights = rng.integers(0, 3, (1, 30)).astype(float)
    repeated = np.repeat(np.arange(30), weights[0].astype(int))
    if len(set(label[repeated])) == 2:
        assert auc(label, score, weights)[0] == pytest.approx(100 * roc_auc_score(label[repeated], score[repeated]))
    else:
        assert np.isnan(auc(label, score, weights)[0])


def test_the_board_is_regressed_on_the_official_one() -> None:
    pairs = random_pairs(300, systems=6)
    official = {f"s{i}": 10.0 * i for i in range(6)}
    found = calibration_figures(arranged(pairs, 2), official)
    own = [
        100 * float(np.mean([v for p in s for v in (p.plain, p.switched) if v is not None])) for s in by_system(pairs)
    ]
    expected = linregress(list(official.values()), own)
    assert found["board_slope"].value == pytest.approx(expected.slope)
    assert found["board_slope"].ci95 is not None
    half = (found["board_slope"].ci95[1] - found["board_slope"].ci95[0]) / 2
    assert half == pytest.approx(2.776445 * expected.stderr, rel=1e-5)
    assert found["board_kendall_tau"].value == pytest.approx(kendall_tau(list(official.values()), own))
    assert found["board_kendall_tau"].ci95 is None
    few = calibration_figures(arranged([p for p in pairs if p.system < "s4"], 2), official)
    assert few["board_slope"].value is few["board_kendall_tau"].value is None


def test_knowing_which_system_is_good_is_worth_nothing() -> None:
    rng = random.Random(1)
    pairs = []
    for i in range(600):
        good = i % 2
        said = 0.9 if good else 0.1
        won = 0.99 if rng.random() < (0.8 if good else 0.1) else 0.01
        pairs.append(JudgedPair(str(good), str(i), won, said, said, 10, 20))
    found = figures(pairs)
    assert found["agreement"].value == found["balanced_agreement"].value == 50


def test_the_judge_itself_agrees_with_itself() -> None:
    pairs = [p._replace(plain=p.won, switched=p.won) for p in random_pairs(400, systems=5)]
    found = figures(pairs)
    for name in ("agreement", "balanced_agreement", "consistency"):
        assert found[name].value == 100
    assert found["board_kendall_tau"].value == pytest.approx(1)
    assert found["board_slope"].value == pytest.approx(1)
    assert found["length_bias"].value == 0
    assert found["first_preferred"].value == pytest.approx(50)


def test_a_judge_that_takes_the_first_has_no_consistency_and_knows_nothing() -> None:
    found = figures([p._replace(plain=0.2, switched=0.8) for p in random_pairs(200)])
    assert found["first_preferred"].value == 100
    assert found["consistency"].value == 0
    assert found["balanced_agreement"].value == pytest.approx(50)
    assert found["agreement"].value == 50


def test_a_judge_that_takes_the_longer_gains_nothing_over_that() -> None:
    pairs = []
    for p in random_pairs(200):
        verdict = (p.length - p.reference_length) / 2000 + 0.5
        pairs.append(p._replace(plain=verdict, switched=verdict))
    found = figures(pairs)
    assert found["longer_preferred"].value == 100
    assert found["gain_over_longer"].value == 0
    assert found["gain_over_longer"].here == (0, 0)
    assert found["agreement"].value == found["longer_agreement"].value


def test_a_system_without_enough_wins_hardly_counts() -> None:
    pairs = [p._replace(plain=p.won, switched=p.won) for p in random_pairs(400, systems=4, ties=False)]
    rare = [JudgedPair("rare", f"q{i}", 0.9 if i == 0 else 0.1, v, v, 9, 9) for i in range(100) for v in [i / 100]]
    found = figures([*pairs, *rare])["agreement"]
    assert found.value is not None
    assert found.systems == 5
    assert 95 < found.value < 100  # it would be 80 if one win that the judge missed counted as much as hundreds


def test_few_systems_say_nothing_about_others() -> None:
    for systems in (1, 2, 3):
        found = figures(random_pairs(300, systems=systems))["agreement"]
        assert found.systems == systems
        assert found.ci95 is None
        assert found.here is not None
    found = figures(random_pairs(300, systems=4))["agreement"]
    assert found.ci95 is not None
    assert found.here is not None
    # Another system is less certain than other instructions of these ones.
    assert found.ci95[0] < found.here[0] < found.here[1] < found.ci95[1]


def test_few_pairs_tell_no_judge_from_a_coin() -> None:
    """All resamples of one win and nine losses that a coin happens to order well are alike. That is no certainty."""
    coin, shown = random.Random(4), 0
    for _ in range(200):
        verdicts = [coin.random() for _ in range(10)]
        found = figures(
            [JudgedPair("s", f"q{i}", 0.9 if i < 2 else 0.1, v, v, 9, 9) for i, v in enumerate(verdicts)], 100
        )
        here = found["agreement"].here
        shown += here is not None and here[0] > 50
    assert shown <= 10  # at most 5 %; a bootstrap alone says so of one coin in twelve
    perfect = [JudgedPair("s", f"q{i}", w, w, w, 9, 9) for i in range(10) for w in [0.9 if i < 2 else 0.1]]
    here = figures(perfect)["agreement"].here
    assert here is not None
    assert here[0] < 60


@pytest.mark.slow
def test_the_interval_for_these_systems_covers_what_it_says() -> None:
    everything = random_pairs(4000, seed=9, ties=False)
    truth = figures(everything, 2)["agreement"].value
    assert truth is not None
    inside = 0
    for i in range(40):
        here = figures(everything[100 * i : 100 * (i + 1)], 300)["agreement"].here
        assert here is not None
        inside += here[0] <= truth <= here[1]
    assert inside >= 34


def test_where_nothing_can_be_said_there_is_no_number() -> None:
    one_sided = [JudgedPair("s", f"q{i}", 0.1, 0.2, 0.3, 5, 5) for i in range(10)]
    found = figures(one_sided)
    for name in ("agreement", "balanced_agreement", "gain_over_longer", "longer_preferred", "length_bias"):
        assert found[name].value is None, name
    assert found["consistency"].value == 100
    found = figures([p._replace(plain=None, switched=None) for p in one_sided])
    assert all(metric.value is None for metric in found.values())
    assert found["agreement"].n_invalid == 20
