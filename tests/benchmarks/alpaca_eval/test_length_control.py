import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.benchmarks.alpaca_eval import length_control
from harness.benchmarks.alpaca_eval.length_control import lc_win_rate, official_lc_win_rate
from harness.benchmarks.alpaca_eval.unpenalised import lc_unpenalised
from harness.boards.consistency import contradiction, unreasonable
from harness.boards.entry import Entry
from harness.stats.intervals import bootstrap_indices
from harness.stats.paired import compare_resamples
from harness.types import Metric
from tests.benchmarks.alpaca_eval.helpers import recorded


def test_undoes_a_judge_that_likes_length() -> None:
    rng = np.random.default_rng(0)
    reference, output = rng.integers(100, 900, 400), rng.integers(100, 900, 400) + 300
    logit = np.tanh((output - reference) / (output - reference).std()) * 2.0 - 0.4  # at equal length: sigmoid(-0.4)
    preferences = 1 + 1 / (1 + np.exp(-logit))
    metric = lc_win_rate(reference.tolist(), output.tolist(), preferences.tolist())
    raw = 100 * (preferences - 1).mean()
    assert metric.value == pytest.approx(100 / (1 + np.exp(0.4)), abs=1.5)
    assert raw > 55
    assert metric.ci95 is not None
    assert metric.ci95[0] < metric.value < metric.ci95[1]


def test_the_same_to_the_digit_and_in_time() -> None:
    rng = np.random.default_rng(1)
    lengths = [rng.integers(50, 2000, 805).tolist() for _ in range(2)]
    preferences = (1 + rng.random(805)).tolist()
    first = lc_win_rate(*lengths, preferences)
    start = time.perf_counter()
    assert lc_win_rate(*lengths, preferences) == first
    assert time.perf_counter() - start < 20


def test_pairs_without_a_verdict_are_counted_and_not_fitted() -> None:
    rng = np.random.default_rng(2)
    lengths = [rng.integers(50, 2000, 60).tolist() for _ in range(2)]
    preferences = [None, *(1 + rng.random(59)).tolist()]
    metric = lc_win_rate(*lengths, preferences)
    assert (metric.n, metric.n_invalid) == (59, 1)
    assert metric.value is not None


def test_equal_lengths_leave_the_win_rate() -> None:
    preferences = [1.9, 1.1, 1.8, 1.7, 1.6, 1.2] * 6
    metric = lc_win_rate([100] * 36, [100] * 36, preferences)
    assert metric.value == pytest.approx(100 * (np.mean(preferences) - 1), abs=1.0)


@pytest.mark.parametrize("wins", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_losses_mirror_wins_also_where_a_resample_has_nothing_else(
    wins: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """liblinear takes the sign of its coefficients from the first outcome that has a weight."""
    rng = np.random.default_rng(3)
    reference, output = (rng.integers(100, 300, 40).tolist() for _ in range(2))
    preferences = [1.0] * (40 - wins) + [2.0] * wins
    seldom = lc_win_rate(reference, output, preferences)
    often = lc_win_rate(output, reference, [3 - preference for preference in preferences])
    assert seldom.value is not None
    assert often.value is not None
    assert seldom.value == pytest.approx(100 - often.value, abs=0.01)
    assert seldom.value < 20
    assert max(seldom.resamples or ()) < 40
    assert min(often.resamples or ()) > 60
    assert "is not found" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("n", [0, 1, 4])
def test_fewer_pairs_than_folds_give_no_figure(n: int) -> None:
    assert lc_win_rate(list(range(n)), [50] * n, [1.7] * n).value is None


def test_a_regression_that_was_shrunk_to_nothing_is_no_figure() -> None:
    """The package itself would print 50 here, where the row won 47 % of its comparisons."""
    lengths = [250, 256, 188, 211, 195, 224, 177, 214]
    preferences = [1.2, 1.2, 1.17, 1.7, 1.84, 1.5, 1.63, 1.55]
    metric = lc_win_rate([1688, 2452, 1761, 982, 1430, 1947, 1895, 1729], lengths, preferences)
    assert (metric.value, metric.ci95, metric.n) == (None, None, 8)
    draws = lc_win_rate(lengths, lengths, [1.5] * 8)
    assert (draws.value, draws.ci95) == (50, (50, 50))


def test_one_and_the_same_length_difference_can_not_be_told_from_quality() -> None:
    metric = lc_win_rate([100] * 20, [150] * 20, [1.2, 1.8] * 10)
    assert metric.value is None
    assert metric.n == 20


# Missing verdicts: a resample's prompts are the same for all rows.

Fit = Callable[..., Metric]


def board(n: int) -> tuple[list[int | None], list[int | None], list[float | None]]:
    """Lengths of the reference's outputs and the row's, and verdicts."""
    rng = np.random.default_rng(n)
    theirs, ours = rng.integers(50, 2000, n), rng.integers(50, 2500, n)
    return theirs.tolist(), ours.tolist(), (1 + rng.beta(0.6, 0.4, n)).tolist()


@pytest.mark.parametrize("fit", [lc_win_rate, lc_unpenalised])
def test_a_row_that_lacks_two_verdicts_of_805_is_compared_on_the_same_resamples(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(length_control, "RESAMPLES", 100)
    theirs, ours, preferences = board(805)
    whole = fit(theirs, ours, preferences)
    preferences[3] = preferences[500] = ours[500] = None  # there's no answer to the latter
    gappy = fit(theirs, ours, preferences)
    assert (gappy.n, gappy.n_invalid, len(gappy.resamples)) == (803, 2, len(whole.resamples))
    assert gappy.value == pytest.approx(whole.value, abs=0.5)  # the penalty is chosen anew
    assert np.corrcoef(whole.resamples, gappy.resamples)[0, 1] > 0.99
    values = float(whole.value or 0), float(gappy.value or 0)
    compared = compare_resamples("a", "b", values, (whole.resamples, gappy.resamples), 805)
    assert compared.stderr < 0.1 * compared.unpaired_stderr


def test_verdicts_that_are_missing_are_left_out_of_each_resample() -> None:
    """The first resamples, fitted again on what they hold."""
    theirs, ours, preferences = board(60)
    preferences[7] = preferences[30] = ours[30] = None
    metric = lc_unpenalised(theirs, ours, preferences)
    for k, drawn in enumerate(bootstrap_indices(60, 1000, 0)[:5]):
        again = lc_unpenalised(*([row[i] for i in drawn] for row in (theirs, ours, preferences)))
        assert again.n == sum(preferences[i] is not None for i in drawn)
        assert metric.resamples[k] == pytest.approx(again.value, abs=1e-6)


@pytest.mark.parametrize("fit", [lc_win_rate, lc_unpenalised])
def test_with_many_verdicts_missing_every_resample_has_a_rate(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(length_control, "RESAMPLES", 200)
    theirs, ours, preferences = board(100)
    metric = fit(theirs, ours, [p if i % 20 == 0 else None for i, p in enumerate(preferences)])
    assert (metric.n, metric.n_invalid) == (5, 95)
    assert np.isfinite(metric.resamples).all()


def test_the_official_rate_keeps_its_resamples_too(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(length_control, "RESAMPLES", 25)
    gamed = shared_data / "alpaca_eval" / "df_gamed_reconstructed.csv"
    rows = recorded(shared_data, "gpt-3.5-turbo-1106", "annotations")
    theirs: list[int | None] = [len(row["output_1"]) for row in rows]
    ours: list[int | None] = [len(row["output_2"]) for row in rows]
    preferences: list[float | None] = [row["preference"] for row in rows]
    whole, _ = official_lc_win_rate(range(805), theirs, ours, preferences, gamed)
    preferences[10], ours[600] = None, None
    gappy, spread = official_lc_win_rate(range(805), theirs, ours, preferences, gamed)
    assert (gappy.n, gappy.n_invalid, len(gappy.resamples)) == (803, 2, 25)
    assert spread is not None
    assert gappy.value == pytest.approx(whole.value, abs=0.3)
    assert np.corrcoef(whole.resamples, gappy.resamples)[0, 1] > 0.99


def test_a_board_with_few_prompts_is_read() -> None:
    """The penalty may leave nearly all resamples of five prompts one value, and a few others values far away."""
    name = "alpaca_eval.lc_win_rate"
    resamples = np.array([50 + 0.0006 * i for i in range(980)] + [5.0] * 20)
    low, high = np.percentile(resamples, [2.5, 97.5]).tolist()
    rate = Metric(value=50.3, stderr=float(resamples.std(ddof=1)), ci95=(low, high), n=5)
    row = Entry(
        id="a",
        method="m",
        metrics={name: rate},
        outcomes={"alpaca_eval": {f"q{i}": 1.5 + 0.01 * i for i in range(5)}},
        resamples={name: resamples.tolist()},
        provenance={"benchmarks": {"alpaca_eval": {}}},
    )
    assert contradiction(row) is None
    assert unreasonable(row) is None
    for ends in ((low - 1, high), (low, high + 1), (0.0, 100.0)):
        other = row.model_copy(update={"metrics": {name: rate.model_copy(update={"ci95": ends})}})
        assert "its resamples give" in str(contradiction(other))
