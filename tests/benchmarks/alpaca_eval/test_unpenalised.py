"""The length-controlled win rate without a penalty: against other fits of the same regression, and where it exists."""

import time
from pathlib import Path

import numpy as np
import pytest

from harness.benchmarks.alpaca_eval.benchmark import AlpacaEval
from harness.benchmarks.alpaca_eval.figures import figures_by
from harness.benchmarks.alpaca_eval.length_control import GLM, OFFICIAL_GLM, RESAMPLES, lc_win_rate
from harness.benchmarks.alpaca_eval.unpenalised import lc_unpenalised
from harness.boards.entry import Entry
from harness.boards.uncertainty import unlike_resamples
from harness.components import build
from harness.stats.intervals import bootstrap_indices
from harness.types import Answer, JudgeReply
from tests.benchmarks.alpaca_eval.helpers import answer, benchmark, prompts_file
from tests.stand_ins import ScriptedAsk

NAME = "alpaca_eval.lc_unpenalised"


def sample(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lengths of the reference's and the row's outputs; preferences, of which longer outputs have more."""
    rng = np.random.default_rng(seed)
    theirs = rng.gamma(4, 150, n).astype(int) + 10
    ours = (theirs * rng.uniform(0.7, 1.6, n)).astype(int)
    logit = 1.5 * np.tanh((ours - theirs) / (ours - theirs).std()) + rng.normal(0, 1.5, n) - 0.2
    return theirs, ours, 1 + 1 / (1 + np.exp(-logit))


def by_sklearn(theirs: np.ndarray, ours: np.ndarray, preferences: np.ndarray, **options: object) -> float:
    """The win rate at equal length, in percent."""
    from sklearn.linear_model import LogisticRegression

    delta = theirs - ours
    features = np.column_stack([np.ones(len(delta)), np.tanh(delta / delta.std(ddof=1))])
    fit = LogisticRegression(fit_intercept=False, tol=1e-10, max_iter=10_000, **options)
    won = preferences - 1
    fit.fit(np.vstack([features] * 2), np.repeat([1, 0], len(won)), sample_weight=np.concatenate([won, 1 - won]))
    return float(100 / (1 + np.exp(-fit.coef_[0][0])))


def rate(*columns: np.ndarray) -> float:
    value = lc_unpenalised(*(column.tolist() for column in columns)).value
    assert value is not None
    return value


@pytest.mark.parametrize("n", [10, 44, 805])
def test_it_is_the_unpenalised_fit_of_sklearn_and_the_packages_own_without_a_penalty(n: int) -> None:
    columns = sample(n)
    assert rate(*columns) == pytest.approx(by_sklearn(*columns, penalty=None), abs=1e-3)
    package = by_sklearn(*columns, penalty="l1", solver="liblinear", C=1e8, random_state=123)
    assert rate(*columns) == pytest.approx(package, abs=0.01)


def test_each_resample_is_the_fit_of_its_prompts() -> None:
    columns = sample(60)
    metric = lc_unpenalised(*(column.tolist() for column in columns))
    assert len(metric.resamples) == RESAMPLES
    for k, drawn in enumerate(bootstrap_indices(60, RESAMPLES, 0)[:20]):
        assert metric.resamples[k] == pytest.approx(by_sklearn(*(c[drawn] for c in columns), penalty=None), abs=1e-3)
    assert metric.stderr == pytest.approx(np.std(metric.resamples, ddof=1))
    assert metric.ci95 == pytest.approx(tuple(np.percentile(metric.resamples, [2.5, 97.5])))


def test_it_exists_where_the_penalised_one_was_shrunk_to_nothing() -> None:
    lengths = [250, 256, 188, 211, 195, 224, 177, 214]
    theirs = [1688, 2452, 1761, 982, 1430, 1947, 1895, 1729]
    preferences = [1.2, 1.2, 1.17, 1.7, 1.84, 1.5, 1.63, 1.55]
    assert lc_win_rate(theirs, lengths, preferences).value is None
    metric = lc_unpenalised(theirs, lengths, preferences)
    assert metric.value is not None
    assert metric.ci95 is not None
    assert 0 <= metric.ci95[0] < metric.value < metric.ci95[1] <= 100


@pytest.mark.parametrize("won", [0.0, 1.0])
def test_only_wins_or_only_losses_are_finite(won: float) -> None:
    theirs, ours, _ = sample(12)
    metric = lc_unpenalised(theirs.tolist(), ours.tolist(), [1 + won] * 12)
    assert metric.value == pytest.approx(100 * won, abs=0.001)
    assert metric.ci95 is not None
    assert metric.ci95[1] - metric.ci95[0] > 15  # twelve wins of twelve are no certainty


def test_wins_that_lengths_tell_without_an_error_are_finite() -> None:
    theirs, ours, _ = sample(20)
    metric = lc_unpenalised(theirs.tolist(), ours.tolist(), np.where(ours > theirs, 2.0, 1.0).tolist())
    assert metric.value is not None
    assert metric.ci95 is not None
    assert np.isfinite([metric.value, metric.stderr, *metric.ci95, *metric.resamples]).all()


def test_equal_lengths_leave_the_win_rate() -> None:
    preferences = [1.9, 1.1, 1.8, 1.7, 1.6, 1.2] * 2
    metric = lc_unpenalised([100] * 12, [100] * 12, preferences)
    assert metric.value == pytest.approx(100 * (np.mean(preferences) - 1), abs=1e-4)


def test_where_there_is_none() -> None:
    assert lc_unpenalised([], [], []).value is None
    assert lc_unpenalised([3, 4], [1, 2], [None, None]).value is None
    alone = lc_unpenalised([100] * 20, [150] * 20, [1.2, 1.8] * 10)
    assert (alone.value, alone.n, alone.n_invalid) == (None, 20, 0)
    # Only the unscored pair has another difference.
    assert lc_unpenalised([100, 100, 300], [150, 150, 100], [1.2, 1.8, None]).value is None
    one = lc_unpenalised([100, None], [100, 30], [1.75, None])
    assert (one.value, one.ci95, one.n, one.n_invalid) == (pytest.approx(75, abs=1e-3), None, 1, 1)


def test_a_thousand_fits_of_805_prompts_take_seconds_and_are_the_same_to_the_digit() -> None:
    columns = [column.tolist() for column in sample(805)]
    started = time.process_time()
    first = lc_unpenalised(*columns)
    assert time.process_time() - started < 5
    assert lc_unpenalised(*columns) == first
    assert first.resamples == lc_unpenalised(*columns).resamples


def against_base(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A policy after a little training against itself before: nearly as good, a bit longer. Half of the answers are the
    same."""
    theirs = rng.gamma(4, 150, n).astype(int) + 10
    ours = np.where(rng.random(n) < 0.5, theirs, (theirs * rng.lognormal(0.05, 0.3, n)).astype(int))
    logit = 0.15 + 0.8 * np.tanh((ours - theirs) / 300)
    won = np.where(ours == theirs, 0.5, rng.beta(2 / (1 + np.exp(-logit)), 2 / (1 + np.exp(logit))))
    return theirs, ours, 1 + won


@pytest.mark.parametrize("n", [10, pytest.param(44, marks=pytest.mark.slow), pytest.param(80, marks=pytest.mark.slow)])
def test_on_boards_against_the_untrained_policy_it_always_exists(n: int) -> None:
    rng, found, inside = np.random.default_rng(0), 0, 0
    truth = by_sklearn(*against_base(rng, 100_000), penalty=None)
    trials = 50 if n == 10 else 300
    for _ in range(trials):
        theirs, ours, preferences = (column.tolist() for column in against_base(rng, n))
        metric = lc_unpenalised(theirs, ours, preferences)
        found += metric.value is not None
        low, high = metric.ci95 or (1.0, 0.0)
        inside += low <= truth <= high
    assert found == trials
    assert inside / trials >= 0.93 - 2 * (0.05 * 0.95 / trials) ** 0.5


# On boards.


def test_it_is_a_figure_of_benchmarks_whose_fit_is_the_minimal_one(tmp_path: Path) -> None:
    def names(**identity: object) -> set[str]:
        return {figure.metric for figure in figures_by(identity)}

    assert NAME in names(lc_glm=GLM)
    assert NAME not in names(lc_glm=OFFICIAL_GLM)
    assert NAME in names()
    for fields, has_it in (
        ({}, False),
        ({"length_control": "minimal"}, True),
        ({"reference": "base"}, True),
        ({"prompts": "builtin"}, True),
    ):
        made = build("benchmark", {"name": "alpaca_eval", **fields})
        assert (NAME in {figure.metric for figure in made.figures_of(made.model_dump(mode="json"))}) == has_it
    (figure,) = [figure for figure in figures_by({"lc_glm": GLM}) if figure.metric == NAME]
    assert (figure.compared, figure.place, figure.pairing.kind if figure.pairing else "") == (
        True,
        "board",
        "resamples",
    )
    assert "penalty" in (figure.note or "")


def test_a_row_against_itself_can_be_compared_with_others(tmp_path: Path) -> None:
    made = benchmark(prompts=str(prompts_file(tmp_path, [{"instruction": f"i{i}", "output": "x"} for i in range(12)])))
    same = [answer(f"i{i}", "y" * (i + 1)) for i in range(12)]
    metrics = made.metrics(same, same, made.verdicts(same, same, ScriptedAsk("never")))
    assert metrics[NAME].value == 50
    assert set(metrics[NAME].resamples) == {50.0}
    assert len(metrics[NAME].resamples) == RESAMPLES
    # Constants by construction have no uncertainty.
    for name in ("win_rate", "lc_win_rate", "lc_unpenalised", "discrete_win_rate"):
        metric = metrics[f"alpaca_eval.{name}"]
        assert (metric.value, metric.stderr, metric.ci95, metric.n) == (50, None, None, 12)


def test_missing_answers_are_counted(tmp_path: Path) -> None:
    rows = [{"instruction": f"i{i}", "output": "x" * (3 * i % 7 + 1)} for i in range(12)]
    made = benchmark(prompts=str(prompts_file(tmp_path, rows)), reference="file")
    answers: list[Answer] = [answer(f"i{i}", "y" * (i + 1)) for i in range(10)]
    ask = ScriptedAsk(JudgeReply(text="m", logprobs={"m": -0.5, "M": -1.0}))
    metrics = made.metrics(answers, [], made.verdicts(answers, [], ask))
    for name in (NAME, "alpaca_eval.lc_win_rate"):
        assert (metrics[name].n, metrics[name].n_invalid) == (10, 2)


def test_lengths_that_differ_by_nearly_the_same_are_no_length_control() -> None:
    """The regression's feature is tanh(-25) for all: any share of the wins could be length's."""
    theirs, ours = [50, 51, 50, 51, 50, 51, 49, 50], [35] * 8
    for fit in (lc_win_rate, lc_unpenalised):
        assert fit(theirs, ours, [1.9] * 8).value is None
        assert fit(theirs, [*ours[:4], 60, 61, 59, 70], [1.9] * 8).value == pytest.approx(90, abs=1)


def test_where_all_verdicts_are_alike_the_rate_agrees_with_its_resamples_as_written() -> None:
    """Boards keep resamples with four decimals, and check figures against them when they are read."""
    theirs, ours, _ = sample(40)
    rate = lc_unpenalised(theirs, ours, [1.9123456789] * 40)
    assert rate.value is not None
    written = {NAME: [round(x, 4) for x in rate.resamples]}
    entry = Entry(id="row", method="dpo", metrics={NAME: rate}, resamples=written)
    figure = next(figure for figure in AlpacaEval.figures if figure.metric == NAME)
    assert unlike_resamples(rate, entry, figure) is None
