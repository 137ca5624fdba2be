import time

import numpy as np
import pytest

from harness.benchmarks.alpaca_eval.length_control import lc_win_rate


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
