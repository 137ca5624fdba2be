"""Interval, p value and gate of the same two rows are one statement: siblings, low rates, ties, missing verdicts."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.boards.entry import Entry
from harness.claims.primary import primary
from harness.components import build
from harness.gate.check import INCONCLUSIVE, PASS, WORSE, run_gate
from harness.gate.margins import Check
from harness.stats.paired import Comparison
from harness.types import Metric

WIN = "alpaca_eval.win_rate"


def entry(name: str, preferences: Mapping[str, float | None]) -> Entry:
    scored = [100 * (x - 1) for x in preferences.values() if x is not None]
    return Entry(
        id=name,
        method="system",
        metrics={WIN: Metric(value=float(np.mean(scored)), n=len(scored), n_invalid=len(preferences) - len(scored))},
        provenance={"judge": {"name": "j"}, "benchmarks": {"alpaca_eval": {}}},
        outcomes={"alpaca_eval": dict(preferences)},
    )


def compared(first: Entry, second: Entry) -> Comparison:
    from harness.boards.outcomes import paired_comparisons

    (found,) = paired_comparisons([first, second])[WIN]
    return found


def agree(first: Entry, second: Entry) -> Comparison:
    """What a board's pair, its answer and a gate say of two rows, checked against each other."""
    found = compared(first, second)
    assert found.ci95 is not None
    low, high = found.ci95
    assert (found.p < 0.05) == (not low <= 0 <= high)
    told = primary([second, first])
    assert told is not None
    (effect,) = told.effects
    assert (effect.difference, effect.p) == pytest.approx((found.difference, found.p))
    assert effect.ci95 == pytest.approx(found.ci95)
    # At a one-sided level of 2.5 % a gate passes exactly where its margin is beyond the 95 % CI.
    for margin in (0.0, 0.3, 1.0, 2.0, 5.0, 20.0, 60.0):
        result = run_gate(first, second, Check(metric=WIN, margin=margin, alpha=0.025))
        expected = PASS if low > -margin else WORSE if high < -margin else INCONCLUSIVE
        assert result.code == expected, (margin, found.ci95, result.reason)
    return found


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> dict[str, dict[str, float | None]]:
    """Recorded preferences of GPT-4 Turbo, by system and prompt."""
    made = build("benchmark", {"name": "alpaca_eval", "data_dir": str(shared_data / "alpaca_eval")})
    rows = {}
    for folder in sorted((shared_data / "alpaca_eval" / "recorded").iterdir()):
        answers, _ = made.recorded_answers(folder / "model_outputs.json.gz")
        given, _, _ = made.recorded_verdicts(folder / "annotations.json.gz", answers)
        rows[folder.name] = {v.question_id: v.value for v in given}
    return rows


def values(preferences: Mapping[str, float | None]) -> np.ndarray:
    return 100 * np.array([x for _, x in sorted(preferences.items())], dtype=float)


@pytest.mark.parametrize(
    ("one", "other", "significant"),
    [
        ("FuseChat-Gemma-2-9B-Instruct", "FuseChat-Llama-3.2-3B-Instruct", True),  # siblings
        ("alpaca-7b", "gemma-2b-it", False),  # rates of 3 %
        ("alpaca-7b", "vicuna-7b-v1.5", True),
    ],
)
def test_recorded_systems(recorded, one: str, other: str, significant: bool) -> None:
    found = agree(entry(one, recorded[one]), entry(other, recorded[other]))
    apart = values(recorded[one]) - values(recorded[other])
    assert found.difference == pytest.approx(apart.mean())
    assert found.stderr == pytest.approx(stats.sem(apart))
    assert (found.p < 0.05) == significant == (stats.ttest_1samp(apart, 0).pvalue < 0.05)
    expected = stats.t.interval(0.95, len(apart) - 1, apart.mean(), stats.sem(apart))
    assert found.ci95 == pytest.approx(expected, abs=0.25 * stats.sem(apart))


def test_ties(recorded) -> None:
    """Nine prompts in ten are tied: what tells are the wins and losses, as in McNemar's test."""
    rng = np.random.default_rng(0)
    for wins, losses in ((4, 0), (6, 0), (12, 4), (30, 30), (50, 30)):
        names = [f"q{i}" for i in range(600)]
        outcome = dict(
            zip(names, rng.permutation([2.0] * wins + [1.0] * losses + [1.5] * (600 - wins - losses)), strict=True)
        )
        against = {name: 3 - float(x) for name, x in outcome.items()}
        found = agree(entry("a", outcome), entry("b", against))
        assert (found.p < 0.05) == (stats.binomtest(wins, wins + losses).pvalue < 0.05)


def test_two_verdicts_of_805_are_missing(recorded) -> None:
    """They are left out of the comparison, and a gate takes them at their worst and best."""
    one, other = "FuseChat-Gemma-2-9B-Instruct", "FuseChat-Llama-3.2-3B-Instruct"
    names = sorted(recorded[one])
    lacking = recorded[one] | {names[3]: None, names[400]: None}
    found, complete = (
        compared(entry(one, lacking), entry(other, recorded[other])),
        compared(entry(one, recorded[one]), entry(other, recorded[other])),
    )
    assert (found.prompts, found.left_out) == (803, 2)
    assert found.difference == pytest.approx(complete.difference, abs=0.3)
    assert found.ci95 == pytest.approx(complete.ci95, abs=0.4)
    result = run_gate(entry(one, lacking), entry(other, recorded[other]), Check(metric=WIN, margin=0.0, alpha=0.025))
    assert result.code == PASS
    assert result.test is not None
    assert found.ci95 is not None
    assert result.test.lower < found.ci95[0] < found.ci95[1] < result.test.upper
    assert found.ci95[0] - result.test.lower < 2 * 100 * 2 / 805
