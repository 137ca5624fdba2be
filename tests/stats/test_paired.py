"""Paired comparisons: against scipy, against each other, and against the truth of simulated boards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness.stats.intervals import mean_metric
from harness.stats.paired import compare, compare_resamples, holm


def row(values: np.ndarray) -> dict[str, float | None]:
    return {f"q{i}": float(v) for i, v in enumerate(values)}


def test_difference_and_errors_are_scipys() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(0.3, 1, 120)
    b = 0.7 * a + rng.normal(0, 0.5, 120)
    (found,) = compare({"a": row(a), "b": row(b)})
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.stderr == pytest.approx(scipy_stats.sem(a - b))
    assert found.unpaired_stderr == pytest.approx(np.hypot(scipy_stats.sem(a), scipy_stats.sem(b)))
    assert found.stderr < found.unpaired_stderr
    exact = scipy_stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=10_000, rng=1
    )
    assert found.p == pytest.approx(exact.pvalue, abs=0.01)
    again = scipy_stats.bootstrap((a - b,), np.mean, n_resamples=5000, method="percentile", rng=1).confidence_interval
    assert found.ci95 == pytest.approx((again.low, again.high), abs=0.04)


def test_six_prompts_can_tell_something_and_five_cannot() -> None:
    def won(n: int) -> dict[str, float | None]:
        return row(np.full(n, 100.0))

    (five,), (six,) = (compare({"a": won(n), "b": row(np.zeros(n))}, reach=100.0) for n in (5, 6))
    assert (five.ci95, five.p, five.difference) == (None, 1.0, 100.0)
    assert six.p == pytest.approx(2 / 64, rel=0.1)  # all signs up, or all down
    assert six.ci95 is not None
    assert six.ci95[0] > 0


def test_turns_of_a_question_go_together() -> None:
    rng = np.random.default_rng(1)
    questions = rng.normal(0, 1, 60)
    both = {f"{i}/{t}": float(q) for i, q in enumerate(questions) for t in (1, 2)}
    zero = dict.fromkeys(both, 0.0)
    (found,) = compare({"a": both, "b": zero})
    assert found.prompts == 60
    assert found.stderr == pytest.approx(scipy_stats.sem(questions))
    metric = mean_metric(list(both.values()), groups=[k.split("/")[0] for k in both])
    assert found.stderr == pytest.approx(metric.stderr)
    assert metric.ci95 is not None
    assert found.ci95 == pytest.approx(metric.ci95, abs=0.08)
    shuffled = dict(sorted(both.items(), key=lambda item: item[0][::-1]))
    assert compare({"a": shuffled, "b": zero}) == [found]


def test_what_is_not_scored_in_both_is_left_out_and_counted() -> None:
    a = {"q1": 1.0, "q2": 2.0, "q3": None, "q4": 4.0}
    b = {"q1": 0.0, "q2": 0.0, "q3": 1.0, "q5": 2.0}
    (found,) = compare({"a": a, "b": b})
    assert (found.difference, found.prompts, found.left_out) == (1.5, 2, 3)
    assert compare({"a": {"q1": 1.0}, "b": {"q1": 2.0}}) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(-5, 5), min_size=6, max_size=6), min_size=3, max_size=4))
def test_rows_do_not_depend_on_which_others_are_there(values: list[list[float]]) -> None:
    rows = {f"r{i}": row(np.array(v)) for i, v in enumerate(values)}
    for found in compare(rows):
        (alone,) = compare({found.first: rows[found.first], found.second: rows[found.second]})
        assert alone.difference == pytest.approx(found.difference, abs=1e-9)
        assert alone.p == pytest.approx(found.p, abs=1e-3)
        (turned,) = compare({found.second: rows[found.second], found.first: rows[found.first]})
        assert turned.difference == pytest.approx(-found.difference, abs=1e-9)
        assert found.ci95 is not None
        assert turned.ci95 == pytest.approx((-found.ci95[1], -found.ci95[0]), abs=1e-6)


def test_holm_is_statsmodels_and_bounds_bonferroni() -> None:
    p = [0.01, 0.04, 0.03, 0.005, 1.0]
    assert holm(p) == pytest.approx([0.04, 0.09, 0.09, 0.025, 1.0])  # worked by hand from Holm 1979
    assert holm([]) == []
    assert all(a >= b for a, b in zip(holm(p), p, strict=True))


def test_figures_that_are_no_means_are_compared_by_their_resamples() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(0, 2, 1000)
    one, other = 53 + common + rng.normal(0, 0.5, 1000), 51 + common + rng.normal(0, 0.5, 1000)
    found = compare_resamples("a", "b", (53.0, 51.0), (list(one), list(other)), 805)
    assert found.difference == 2.0
    assert found.stderr == pytest.approx(np.std(one - other, ddof=1))
    assert found.unpaired_stderr > 2 * found.stderr
    assert found.p < 0.02
    same = compare_resamples("a", "b", (53.0, 53.0), (list(one), list(one)), 805)
    assert (same.difference, same.p, same.stderr) == (0.0, 1.0, 0.0)


# The truth of simulated boards.

BOARDS = 2000


def verdicts(rng: np.random.Generator, n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Preferences in percent as judges give them, near 0 and 100, of two rows that agree on most prompts; the first is
    better by `shift` percent points in truth."""
    hard = rng.beta(0.25, 0.6, n)
    theirs = np.where(rng.random(n) < 0.6, hard, rng.beta(0.25, 0.6, n))
    mine = np.where(rng.random(n) < 0.6, hard, rng.beta(0.25, 0.6, n))
    return 100 * mine + shift, 100 * theirs


def ratings(rng: np.random.Generator, n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """MT-bench ratings, whole numbers from 1 to 10, of two rows whose questions have a common difficulty."""
    level = rng.normal(7, 1.5, n)
    theirs, mine = (np.clip(np.round(level + rng.normal(0, 1.2, n)), 1, 10) for _ in range(2))
    return mine + shift, theirs


@pytest.mark.parametrize(
    ("draw", "n", "reach"),
    [
        (verdicts, 20, 100.0),
        (verdicts, 80, 100.0),
        pytest.param(verdicts, 300, 100.0, marks=pytest.mark.slow),
        (ratings, 80, 10.0),
    ],
)
def test_intervals_cover_and_a_true_null_is_rejected_no_more_often_than_is_said(draw, n, reach) -> None:
    rng = np.random.default_rng(n)
    truth, covered, rejected = 1.0, 0, 0
    for _ in range(BOARDS):
        mine, theirs = draw(rng, n, truth)
        (found,) = compare({"a": row(mine), "b": row(theirs)}, reach=reach)
        covered += found.ci95[0] <= truth <= found.ci95[1]
        (null,) = compare({"a": row(mine - truth), "b": row(theirs)}, reach=reach)
        rejected += null.p < 0.05
    assert 0.93 <= covered / BOARDS <= 0.999
    assert rejected / BOARDS <= 0.065


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "n", "reach"), [(verdicts, 300, 100.0), (ratings, 80, 10.0)])
def test_the_minimum_detectable_effect_is_detected_four_times_in_five(draw, n, reach) -> None:
    rng = np.random.default_rng(2)
    (pilot,) = compare(dict(zip("ab", map(row, draw(rng, n, 0.0)), strict=True)), reach=reach)
    pairs = (draw(rng, n, pilot.detectable) for _ in range(1000))
    found = [compare({"a": row(m), "b": row(t)}, reach=reach)[0] for m, t in pairs]
    assert np.mean([c.p < 0.05 for c in found]) == pytest.approx(0.8, abs=0.06)


def test_many_rows_are_compared_as_two_are(monkeypatch) -> None:
    """The way with numpy, for large boards, gives the same."""
    rng = np.random.default_rng(4)
    rows = {name: row(rng.normal(50, 20, 40)) for name in "abcd"}
    plain = compare(rows, reach=100.0)
    monkeypatch.setattr("harness.stats.paired.MOST_WITHOUT_NUMPY", 0)
    for one, other in zip(plain, compare(rows, reach=100.0), strict=True):
        assert list(one.model_dump(exclude={"ci95", "first", "second"}).values()) == pytest.approx(
            list(other.model_dump(exclude={"ci95", "first", "second"}).values())
        )
        assert one.ci95 == pytest.approx(other.ci95)


def test_the_recorded_systems_are_compared_with_less_error_paired_than_unpaired(shared_data) -> None:
    from harness.components import build

    made = build("benchmark", {"name": "alpaca_eval", "data_dir": str(shared_data / "alpaca_eval")})
    rows = {}
    for folder in sorted((shared_data / "alpaca_eval" / "recorded").iterdir()):
        answers, _ = made.recorded_answers(folder / "model_outputs.json.gz")
        given, _, _ = made.recorded_verdicts(folder / "annotations.json.gz", answers)
        rows[folder.name] = {v.question_id: None if v.value is None else 100 * (v.value - 1) for v in given}
    found = {(c.first, c.second): c for c in compare(rows, reach=100.0)}
    siblings = found["FuseChat-Gemma-2-9B-Instruct", "FuseChat-Llama-3.2-3B-Instruct"]
    # Measured before by others on the same files: 1.98 unpaired, 1.39 paired.
    assert (siblings.unpaired_stderr, siblings.stderr) == pytest.approx((1.98, 1.39), abs=0.06)
    assert siblings.is_significant
    assert all(c.prompts == 805 for c in found.values())
    assert np.median([c.stderr / c.unpaired_stderr for c in found.values()]) < 0.95
