"""The gate: its four exit codes on boards made for each, from files, from the command line and in a recipe."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.boards.entry import Entry
from harness.gate.check import Check, run_gate, worst
from harness.stats.noninferiority import non_inferiority
from harness.types import Metric
from tests.gate.rows import OLD, N, row, without
from tests.sample_boards import BENCHMARKS, LOCAL, with_provenance


@pytest.mark.parametrize(
    ("shift", "n", "code", "said"),
    [
        (0.0, N, 0, "not worse|by more than"),
        (3.0, N, 0, "differs by +"),
        (-6.0, N, 1, "differs by -"),
        (-4.0, 12, 3, "can't be told at this n"),
    ],
)
def test_not_worse_worse_and_not_settled(shift: float, n: int, code: int, said: str) -> None:
    result = run_gate(row("new", shift, n), row("old", 0, n), Check())
    assert result.code == code
    assert any(part in result.reason for part in said.split("|"))
    assert result.test is not None
    assert result.test.n == n
    assert len(result.reason.splitlines()) == 1


def test_bounds_are_those_of_scipys_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    differences = list(rng.normal(-0.4, 2, 60))
    found = non_inferiority(differences, margin=1, alpha=0.05)
    two_sided = scipy_stats.ttest_1samp(differences, 0).confidence_interval(0.90)
    assert (found.lower, found.upper) == pytest.approx((two_sided.low, two_sided.high))
    doubled = [x for d in differences for x in (d, d)]
    groups = [i for i in range(60) for _ in (1, 2)]
    again = non_inferiority(doubled, margin=1, alpha=0.05, groups=groups)
    assert (again.lower, again.upper, again.n) == pytest.approx((found.lower, found.upper, 60))


def test_at_the_margin_it_passes_and_fails_in_five_cases_of_a_hundred() -> None:
    """Verdicts as judges give them: near 1 and 2, of rows that agree on most prompts."""
    rng = np.random.default_rng(1)
    outcomes = []
    for _ in range(1500):
        theirs = rng.beta(0.3, 0.5, 200) * 100
        mine = np.where(rng.random(200) < 0.7, theirs, rng.beta(0.3, 0.5, 200) * 100)
        shift = 2.0  # both rows have one distribution; the new one is then moved to the margin
        outcomes.append(non_inferiority(list(mine - theirs - shift), margin=2.0, alpha=0.05).outcome)
    assert 0.03 < outcomes.count("not worse") / 1500 < 0.07
    assert 0.03 < outcomes.count("worse") / 1500 < 0.07


def test_what_is_said_to_be_detectable_is_detected_in_four_cases_of_five() -> None:
    rng = np.random.default_rng(2)
    sd, n = 30.0, 300
    detectable = non_inferiority(list(rng.normal(0, sd, n)), margin=2.0, alpha=0.05).detectable
    settled = [
        non_inferiority(list(rng.normal(detectable - 2.0, sd, n)), margin=2.0, alpha=0.05).outcome for _ in range(1000)
    ]
    assert 0.75 < settled.count("not worse") / 1000 < 0.85
    seen = non_inferiority(list(rng.normal(1.0, sd, 1000)), margin=2.0, alpha=0.05)
    assert seen.needed is not None
    effect = seen.difference + 2.0
    again = [
        non_inferiority(list(rng.normal(effect - 2.0, sd, seen.needed)), margin=2.0, alpha=0.05).outcome
        for _ in range(500)
    ]
    assert 0.75 < again.count("not worse") / 500 < 0.85


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (without(row("new", 5), 5), "5 of the baseline's are missing"),
        (without(row("new", 5), 5, none=True), "5 of 400 verdicts of alpaca_eval are missing"),
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
    assert result.code == 2
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
    check = Check(metric=lc, margin=1.0)
    assert run_gate(with_lc(row("new", 0), 50.0), old, check).code == 0
    assert run_gate(with_lc(row("new", 0), 47.0), old, check).code == 1
    unsettled = run_gate(with_lc(row("new", 0), 49.0, noise=3.0), old, check)
    assert unsettled.code == 3
    apart = np.array(with_lc(OLD, 50.0).resamples[lc]) - np.array(old.resamples[lc])
    assert unsettled.test is not None
    assert unsettled.test.upper - unsettled.test.lower > np.ptp(np.percentile(apart, [5, 95]))
    bare = with_lc(row("new", 0), 50.0).model_copy(update={"resamples": {}})
    refused = run_gate(bare, old, check)
    assert (refused.code, "has no resamples of alpaca_eval.lc_win_rate" in refused.reason) == (2, True)


def test_a_floor_needs_no_baseline() -> None:
    assert run_gate(row("new", 0), None, Check(minimum=40)).code == 0
    below = run_gate(row("new", 0), None, Check(minimum=90))
    assert (below.code, "below the floor of 90" in below.reason) == (1, True)
    assert run_gate(row("new", 0), None, Check()).code == 2
    assert run_gate(row("new", 5), OLD, Check(minimum=90)).code == 1


def test_the_worst_decides() -> None:
    results = [run_gate(row("new", s), OLD, Check()) for s in (0, -6)]
    assert worst(results) == 1
    assert worst([*results, run_gate(row("new", 0), None, Check())]) == 2
    assert worst(results[:1]) == worst([]) == 0
