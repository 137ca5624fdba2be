"""The gate: its four exit codes on boards made for each, from files, from the command line and in a recipe."""

import numpy as np
import pytest

from harness.boards.entry import Entry
from harness.gate.check import INCONCLUSIVE, PASS, REFUSED, WORSE, run_gate, worst
from harness.gate.margins import Check
from harness.stats.bounds import mean_of
from harness.stats.noninferiority import non_inferiority
from harness.stats.paired import compare
from harness.types import Metric
from tests.gate.rows import OLD, N, row, without
from tests.sample_boards import BENCHMARKS, LOCAL, with_provenance


@pytest.mark.parametrize(
    ("shift", "n", "code", "said"),
    [
        (0.0, N, PASS, ": not worse than allowed (margin 2; one-sided 95 % bound −"),
        (3.0, N, PASS, "alpaca_eval.win_rate +"),
        (-6.0, N, WORSE, ": worse than allowed (margin 2; one-sided 95 % bound −"),
        (-4.0, 12, INCONCLUSIVE, "; 12 prompts can settle a margin of "),
        (-4.0, 4, INCONCLUSIVE, "fewer than 6 prompts tell nothing"),
    ],
)
def test_not_worse_worse_and_not_settled(shift: float, n: int, code: int, said: str) -> None:
    result = run_gate(row("new", shift, n), row("old", 0, n), Check())
    assert result.code == code, result.reason
    assert said in result.reason
    assert "-" not in result.reason.replace("one-sided", "")  # minus signs, not hyphens
    assert result.test is not None
    assert result.test.n == n
    assert len(result.reason.splitlines()) == 1


def test_interval_and_gate_are_those_of_the_board() -> None:
    """One method: the interval that a gate states is the one of the board's comparison, to the digit."""
    new = row("new", -1.2)
    found = run_gate(new, OLD, Check())
    values = {e.id: {k: 100 * (v - 1) for k, v in e.outcomes["alpaca_eval"].items() if v} for e in (new, OLD)}
    (board,) = compare(values, reach=100.0)
    assert board.ci95 is not None
    assert found.tested is not None
    assert found.tested.ci95 == pytest.approx(board.ci95)
    low, high = (f"{x:.1f}".replace("-", "−") for x in board.ci95)
    assert f"(95 % CI {low} to {high}) on 400 prompts" in found.reason


def test_with_many_prompts_it_is_scipys_paired_t_test() -> None:
    from scipy import stats as scipy_stats

    differences = list(np.random.default_rng(0).normal(-0.4, 20, 100_000))
    found = non_inferiority(mean_of(differences, 100.0), 1.0, 0.05)
    two_sided = scipy_stats.ttest_1samp(differences, 0).confidence_interval(0.90)
    assert (found.lower, found.upper) == pytest.approx((two_sided.low, two_sided.high), abs=2e-3)


def test_the_margin_that_is_said_to_be_settled_is_settled_in_four_cases_of_five() -> None:
    rng = np.random.default_rng(2)
    sd, n = 30.0, 300
    first = non_inferiority(mean_of(list(rng.normal(0, sd, n)), 100.0), 2.0, 0.05)
    again = [
        non_inferiority(mean_of(list(rng.normal(0, sd, n)), 100.0), first.settles, 0.05).outcome for _ in range(600)
    ]
    assert 0.74 < again.count("not worse") / 600 < 0.86


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (without(row("new", 5), 5), "5 are missing, and 0 are new"),
        (without(row("new", 5), 21, none=True), "21 of 400 verdicts of alpaca_eval are missing"),
        (with_provenance(row("new", 5), judge={**LOCAL, "model": "other"}), "different judge: model:"),
        (
            with_provenance(row("new", 5), benchmarks={"alpaca_eval": {**BENCHMARKS["alpaca_eval"], "limit": 3}}),
            "different alpaca_eval: limit: None -> 3",
        ),
        (with_provenance(row("new", 5), references={"alpaca_eval": "k"}), "against different answers of row"),
        (row("new", 5).model_copy(update={"outcomes": {}}), "no outcomes by prompt"),
        (row("new", 5).model_copy(update={"metrics": {}}), "row 'new' has no alpaca_eval.win_rate"),
    ],
)
def test_what_can_not_be_compared_is_no_pass(new: Entry, said: str) -> None:
    result = run_gate(new, OLD, Check())
    assert result.code == REFUSED
    assert said in result.reason
    assert result.test is None


def test_another_metric_has_its_own_unit_and_prompts() -> None:
    new, old = row("new", 0), row("old", 0)
    found = run_gate(new, old, Check(metric="mt_bench.score", margin=1.0))
    assert found.test is not None
    assert found.test.n == N // 4  # both turns of a question go together
    mean = new.metrics["mt_bench.score"].value - old.metrics["mt_bench.score"].value  # type: ignore[operator]
    assert found.test.difference == pytest.approx(mean)
    first = run_gate(new, old, Check(metric="mt_bench.turn_1", margin=1.0)).test
    assert first is not None
    turn = new.metrics["mt_bench.turn_1"].value - old.metrics["mt_bench.turn_1"].value  # type: ignore[operator]
    assert first.difference == pytest.approx(turn)
    assert run_gate(new, old, Check(metric="mt_bench.sore")).reason.startswith(
        "unknown metric 'mt_bench.sore'; did you"
    )


def test_length_controlled_rates_are_compared_by_their_resamples() -> None:
    rng = np.random.default_rng(3)
    common = rng.normal(0, 1.5, 1000)
    lc = "alpaca_eval.lc_win_rate"

    def with_lc(entry: Entry, value: float, noise: float = 0.3) -> Entry:
        drawn = [float(x) for x in value + common + rng.normal(0, noise, 1000)]
        metrics = {**entry.metrics, lc: Metric(value=value, n=N)}
        return entry.model_copy(update={"metrics": metrics, "resamples": {lc: drawn}})

    old = with_lc(OLD, 50.0)
    check = Check(metric=lc, margin=2.0)
    assert run_gate(with_lc(row("new", 0), 50.0), old, check).code == PASS
    assert run_gate(with_lc(row("new", 0), 46.0), old, check).code == WORSE
    unsettled = run_gate(with_lc(row("new", 0), 49.0, noise=3.0), old, check)
    assert unsettled.code == INCONCLUSIVE
    apart = np.array(with_lc(OLD, 50.0).resamples[lc]) - np.array(old.resamples[lc])
    assert unsettled.test is not None
    assert unsettled.test.upper - unsettled.test.lower > np.ptp(np.percentile(apart, [5, 95]))
    bare = with_lc(row("new", 0), 50.0).model_copy(update={"resamples": {}})
    refused = run_gate(bare, old, check)
    assert (refused.code, "has no resamples of alpaca_eval.lc_win_rate" in refused.reason) == (REFUSED, True)
    # Two verdicts of 400 that are missing move the rate by half a point at most, and the bound with it.
    lacking = with_lc(without(row("new", 0), 2, none=True), 50.0)
    found = run_gate(lacking, old, Check(metric=lc, margin=3.0))
    complete = run_gate(with_lc(row("new", 0), 50.0), old, Check(metric=lc, margin=3.0))
    assert found.test is not None
    assert complete.test is not None
    assert complete.test.lower - found.test.lower == pytest.approx(100 * 2 / 400, abs=0.1)


# Missing verdicts.


def test_few_missing_verdicts_are_taken_at_their_worst() -> None:
    complete = run_gate(row("new", 0), OLD, Check())
    found = run_gate(without(row("new", 0), 4, none=True), OLD, Check())
    assert "4 verdicts missing and taken at worst and at best" in found.reason
    assert found.code == PASS
    lost = row("new", 0)
    outcomes = {k: 1.0 if i < 4 else v for i, (k, v) in enumerate(lost.outcomes["alpaca_eval"].items())}
    filled = lost.model_copy(update={"outcomes": {**lost.outcomes, "alpaca_eval": outcomes}})
    worst_case = run_gate(filled, OLD, Check())
    assert found.test is not None
    assert worst_case.test is not None
    assert complete.test is not None
    assert found.test.lower == pytest.approx(worst_case.test.lower)
    assert found.test.upper > complete.test.upper


def test_missing_verdicts_that_could_decide_leave_it_open() -> None:
    assert run_gate(row("new", 0), OLD, Check()).code == PASS
    assert run_gate(without(row("new", 0), 10, none=True), OLD, Check()).code == INCONCLUSIVE
    # The baseline's missing ones count as won.
    assert run_gate(row("new", 0), without(OLD, 10, none=True), Check()).code == INCONCLUSIVE
    # Worse by far is worse, whatever the missing ones are.
    assert run_gate(without(row("new", -9.0), 4, none=True), OLD, Check()).code == WORSE


# Floors.


def test_a_floor_needs_no_baseline_and_is_tested_by_a_bound() -> None:
    assert run_gate(row("new", 0), None, Check(minimum=40)).code == PASS
    below = run_gate(row("new", 0), None, Check(minimum=90))
    assert (below.code, "below the floor of 90 %" in below.reason) == (WORSE, True)
    value = row("new", 0).value("alpaca_eval.win_rate")
    assert value is not None
    for floor in (value - 0.2, value + 0.2):  # closer than this n can tell
        assert run_gate(row("new", 0), None, Check(minimum=floor)).code == INCONCLUSIVE
    assert run_gate(row("new", 0), None, Check()).code == REFUSED
    both = run_gate(row("new", 5), OLD, Check(minimum=90))
    assert both.code == WORSE
    assert both.reason.startswith("alpaca_eval.win_rate is ")  # what decides comes first
    assert "not worse than allowed" in both.reason
    assert "a floor of −5 is outside of" in run_gate(row("new", 0), None, Check(minimum=-5)).reason
    beyond = run_gate(row("new", 0), None, Check(minimum=101))
    assert (beyond.code, "outside of what alpaca_eval.win_rate can be, 0 to 100 %" in beyond.reason) == (REFUSED, True)


def heldout(share: float, n: int = 200) -> Entry:
    right = round(share * n)
    margins = {f"p{i}": 0.5 if i < right else -0.5 for i in range(n)}
    return Entry(
        id="new",
        method="dpo_best_worst",
        metrics={"heldout.pair_accuracy": Metric(value=right / n, n=n), "heldout.margin": Metric(value=0.0, n=n)},
        outcomes={"heldout": margins},
    )


@pytest.mark.parametrize("floor", [60, 0.6])
def test_a_floor_of_a_share_is_a_share_or_a_percentage(floor: float) -> None:
    check = Check(metric="heldout.pair_accuracy", minimum=floor)
    codes = [run_gate(heldout(share), None, check).code for share in (0.72, 0.61, 0.40)]
    assert codes == [PASS, INCONCLUSIVE, WORSE]
    assert "not below the floor of 60 % (one-sided 95 % bound 6" in run_gate(heldout(0.72), None, check).reason


# Guards.


def test_a_flagged_row_does_not_pass_unless_that_is_allowed() -> None:
    flags = {"alpaca_eval": [{"name": "constant", "text": "400 of 400 answers are near-equal to one: 'I'"}]}
    null = with_provenance(row("new", 30), guards=flags)
    refused = run_gate(null, OLD, Check())
    assert (refused.code, "near-equal to one" in refused.reason, "--allow" in refused.reason) == (REFUSED, True, True)
    assert run_gate(null, OLD, Check(allow=True)).code == PASS
    assert run_gate(null, None, Check(minimum=10)).code == REFUSED
    assert "its doubtful figures: alpaca_eval.win_rate +29.4 points (95 % CI" in refused.reason
    keys = {"verdicts/alpaca_eval/a": "k"}
    same = with_provenance(row("new", 30, keys=keys), guards=flags)
    assert run_gate(same, with_provenance(row("new", 30, keys=keys), guards=flags), Check()).code == PASS


def test_the_worst_decides() -> None:
    results = [run_gate(row("new", s), OLD, Check()) for s in (0, -6)]
    assert worst(results) == WORSE
    assert worst([*results, run_gate(row("new", 0), None, Check())]) == REFUSED
    assert worst(results[:1]) == worst([]) == PASS


def test_an_unchanged_row_passes_on_any_number_of_prompts() -> None:
    """No margin is settled by so few prompts, but the very same answers and verdicts are not worse."""
    keys = {"verdicts/alpaca_eval/a": "k", "answers/alpaca_eval/a": "l"}
    before, after, other = (row("a", 0, 12, keys=k) for k in (keys, keys, {**keys, "verdicts/alpaca_eval/a": "m"}))
    check = Check(margin="0.5")
    assert run_gate(other, before, check).code == 3
    done = run_gate(after, before, check, anchor=before)
    assert done.code == 0
    assert "the very answers and verdicts of row 'a'" in done.reason
    assert done.tested is not None
    forged = row("a", -20, 12, keys=keys)
    assert run_gate(forged, before, check).code != 0
