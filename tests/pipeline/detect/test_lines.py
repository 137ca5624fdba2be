"""The command that shows designs, and the last lines of a plan."""

import math
from pathlib import Path

import numpy as np
import pytest

from harness.errors import HarnessError
from harness.pipeline.detect.lines import equal_passes, power_lines
from harness.stats.bounds import mean_of
from harness.stats.noninferiority import non_inferiority
from harness.stats.power import Parts
from tests.pipeline.detect.planned import CLEAR, SWEEP, Command, found, simulated_pilot, with_edits


def test_the_command_shows_the_designs_and_what_it_assumes(recipe: Path, command: Command) -> None:
    code, shown = command(recipe, "--detect", "20", "--assume", CLEAR)
    assert code == 0
    assert "multi-dpo against dpo, by AlpacaEval win rate" in shown
    words = " ".join(shown.split())
    assert "a true difference of 20 points with 80 % power" in words
    assert "* the recipe as it is. One training seed says nothing about methods" in words
    assert "Standard deviations in points: training 0.6, prompts 4.0, rest 8.0, judge 2.0" in words
    assert "as given" in words
    table = shown[: shown.index("* the recipe")].splitlines()
    assert "…" not in shown
    assert any(line.strip().startswith("* 1 ") for line in table)
    assert shown.splitlines()[-1].startswith(f"The first of them: harness run {recipe} --set 'training.seeds=[5, 0")
    code, shown = command(recipe, "--detect", "2")
    assert "2.27 points over five seeds of DPO on GSM8K" in " ".join(shown.split())
    assert "No design in reach shows it. The largest, 20 seeds and 32 prompts" in " ".join(shown.split())


KNOWN_TRUTH = (
    *("--set", "evaluation.gold_reward={name: gold, words: [5, 25]}"),
    *("--set", "primary.metric=gold_reward.score"),
)
ONE_BENCHMARK = "evaluation.benchmarks=[{name: alpaca_eval, prompts: builtin, reference: base, limit: 12}]"
PROBLEMS = [
    (("--detect", "nan"), "--detect nan: expected a difference above 0"),
    (("--detect", "-2"), "--detect -2: expected a difference above 0"),
    (("--detect", "0"), "--detect 0: expected a difference above 0"),
    (("--detect", "inf"), "--detect inf: expected a difference above 0"),
    (("--detect", "101"), "--detect 101: two rows differ by at most 100 points in alpaca_eval."),
    (("--detect", "2", "--assume", "training=0,prompts=0,rest=0,judge=0"), "every standard deviation is 0"),
    (("--detect", "2", "--power", "1.5"), "--power 1.5: expected a probability"),
    (("--detect", "2", "--power", "nan"), "--power nan: expected a probability"),
    (("--power", "0.9"), "--power is for --detect"),
    (("--detect", "2", "--pilot", "nowhere"), "nowhere"),
    (("--detect", "2", "--assume", "trainings=1"), "unknown part 'trainings'; did you mean 'training'?"),
    (("--detect", "2", "--assume", "rest=-1"), "rest=-1: expected a standard deviation"),
    (("--detect", "2", "--set", SWEEP), "--cell epochs-1"),
    (("--detect", "2", "--set", "methods=[]", "--set", "primary=null"), "it has no methods"),
    (("--detect", "2", "--set", "primary.metric=heldout.pair_accuracy"), "power is about figures of a benchmark"),
    (("--detect", "0.1", *KNOWN_TRUTH), "gold_reward.score is the mean over 2 benchmarks"),
    (("--detect", "0.1", *KNOWN_TRUTH, "--set", ONE_BENCHMARK), "nothing is known about how gold_reward.score varies"),
]


def test_a_known_truth_s_score_can_be_the_question(recipe: Path, command: Command) -> None:
    spread = "training=0.01,prompts=0.02,rest=0.1"
    code, shown = command(recipe, "--detect", "0.2", *KNOWN_TRUTH, "--set", ONE_BENCHMARK, "--assume", spread)
    assert code == 0
    assert "multi-dpo against dpo, by Reward gold" in shown


@pytest.mark.parametrize(("arguments", "message"), PROBLEMS, ids=[" ".join(a)[:40] for a, _ in PROBLEMS])
def test_a_mistake_is_one_line(recipe: Path, command: Command, arguments: tuple[str, ...], message: str) -> None:
    code, shown = command(recipe, *arguments)
    assert code == 2
    assert shown.count("\n") == 1
    assert message in shown


def test_a_pilot_without_the_metric_is_refused(recipe: Path, command: Command, tmp_path: Path) -> None:
    pilot, _ = simulated_pilot(tmp_path, 3, 400)
    code, shown = command(recipe, "--detect", "0.5", "--set", "primary.metric=mt_bench.score", "--pilot", pilot)
    assert code == 2
    assert shown.count("\n") == 1
    assert "no two of its rows can be compared by mt_bench.score" in shown
    code, shown = command(recipe, "--detect", "30", "--pilot", pilot)
    assert code == 0
    assert "as the pilot shows, over 3 seeds, which tell it only roughly" in " ".join(shown.split())


def test_a_cell_of_a_sweep_is_a_design(recipe: Path, command: Command) -> None:
    cell = ("--set", SWEEP, "--cell", "epochs-2")
    code, shown = command(recipe, "--detect", "20", "--assume", CLEAR, *cell)
    assert code == 0
    assert shown.splitlines()[-1].endswith(" --cell epochs-2")
    clash = ("--set", "sweep={grid: {training.seeds: [[1], [2]]}}", "--cell", "seeds-1")
    code, shown = command(recipe, "--detect", "20", "--assume", CLEAR, *clash)
    assert code == 2, shown


# The last lines of a plan.


def lines(recipe: Path, *edits: str) -> list[str]:
    return list(power_lines(with_edits(recipe, *edits)(())))


def test_a_plan_ends_with_what_the_design_shows(recipe: Path, command: Command) -> None:
    (line,) = lines(recipe, "training.seeds=[1, 2, 3]")
    assert line.startswith("By AlpacaEval win rate, this design shows differences of ")
    assert "points or more with 80 % power (assumed: training 1.2, prompts 12.0, rest 38.0, judge 5.0)" in line
    (line,) = lines(recipe)
    assert "one training seed says nothing about methods" in line
    assert lines(recipe, "evaluation=null", "primary=null") == []
    assert lines(recipe, SWEEP) == []
    _, shown = command(recipe)
    assert " ".join(shown.split()).endswith(line)


def test_a_plan_tells_the_power_of_gates(recipe: Path) -> None:
    gates = "gates=[{row: dpo, baseline_row: base, margin: 30}, {row: dpo, baseline_row: base, margin: 10%}, "
    gates += "{row: dpo, baseline_row: base, metric: mt_bench.score}, {row: dpo, min: 50}]"
    _, points, share, rating = lines(recipe, gates, "evaluation.benchmarks.0.limit=32")
    assert points.startswith(
        "Gate: dpo against base, alpaca_eval.win_rate: with 32 prompts and margin 30, an equal row"
    )
    assert "depends on the baseline's value" in share
    assert "with 16 prompts and margin 0.2" in rating


def test_the_power_of_a_gate_is_the_realised_one(recipe: Path) -> None:
    spread, n, margin = found(recipe, 20.0, assume="training=0,prompts=12,rest=38,judge=0").spread, 200, 8.0
    rng = np.random.default_rng(3)
    passed = [
        non_inferiority(mean_of(rng.normal(0, math.hypot(12, 38), n).clip(-100, 100).tolist(), 100.0), margin, 0.05)
        for _ in range(1000)
    ]
    realised = np.mean([test.outcome == "not worse" for test in passed])
    assert equal_passes(spread, n, margin, 0.05) == pytest.approx(realised, abs=0.04)


def test_a_figure_that_nobody_knows_needs_a_pilot_or_words(recipe: Path) -> None:
    from harness.claims.spread import spread_of
    from harness.figures import Figure, Pairing

    figure = Figure(metric="arena.score", group="Arena", title="score", pairing=Pairing(), compared=True)
    with pytest.raises(
        HarnessError, match=r"nothing is known about how arena\.score varies: give a board with --pilot"
    ):
        spread_of(figure, 2, "training=1,prompts=2")
    assert spread_of(figure, 2, "training=1,prompts=2,rest=3").parts() == Parts(math.sqrt(2), 2.0, 3.0, 0.0, 0.0)
