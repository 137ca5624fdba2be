"""Designs that show a difference: what they cost, that a recipe takes them, and that they vary as predicted."""

import math
import shlex
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.boards.entry import Entry
from harness.cli.app import app
from harness.cli.endings import as_exit_code
from harness.engine.store import Store
from harness.errors import HarnessError
from harness.pipeline.detect.designs import Costs, Sizable, Size
from harness.pipeline.detect.lines import equal_passes, power_lines
from harness.pipeline.detect.search import Detection, Wanted, detect
from harness.pipeline.detect.subject import subject_of
from harness.pipeline.detect.view import first_command
from harness.pipeline.estimates import Estimates
from harness.pipeline.study import make_study_plan
from harness.recipe.arms import arms_of
from harness.recipe.load import Study, load_study
from harness.recipe.recipe import Recipe
from harness.stats.bounds import mean_of
from harness.stats.crossed import crossed
from harness.stats.noninferiority import non_inferiority
from harness.stats.power import Design, Parts, detectable, power, stderr
from harness.types import Metric
from tests.perf.claims import Setting, differences, entries
from tests.sample_boards import with_provenance

RECIPE = """\
name: planned
seed: 5
policy: {{model: {model}, dtype: float32}}
data:
  seeds: [{{name: builtin}}]
  holdout: 0.25
  responses: {{generator: {{name: hf, model: {model}, dtype: float32}}, n: 3, max_new_tokens: 12}}
  reward: {{name: length}}
methods:
  - {{id: dpo, loss: {{name: dpo_best_worst, beta: 0.1}}}}
  - {{id: multi-dpo, loss: {{name: mdpo_linear, beta: 0.1}}, match: tokens, training: {{epochs: 2}}}}
training: {{epochs: 1, max_prompt_length: 256, max_length: 512, lora: {{r: 4}}}}
evaluation:
  judge: {{name: openai, model: j, base_url: "http://127.0.0.1:9/v1", price: {{input: 2.5, output: 10}}}}
  answers: {{max_new_tokens: 64}}
  benchmarks:
    - {{name: alpaca_eval, prompts: builtin, reference: base, limit: 12}}
    - {{name: mt_bench, questions: builtin}}
primary: {{metric: alpaca_eval.win_rate}}
"""
CLEAR = "training=0.6,prompts=4,rest=8,judge=2"
"""So little noise that a few prompts show a few points."""
FREE = "evaluation.judge.price={input: 0, output: 0}"
SWEEP = "sweep={grid: {training.epochs: [1, 2]}}"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    path = tmp_path_factory.mktemp("planned") / "planned.yaml"
    path.write_text(RECIPE.format(model=tiny_model))
    return path


def with_edits(path: Path, *edits: str) -> Callable[[Sequence[str]], Study]:
    return lambda more: load_study(path, [*edits, *more], check=False)


@cache
def found(path: Path, difference: float, *edits: str, **wanted: Any) -> Detection:
    store = Store(path.parent / "store")
    return detect(with_edits(path, *edits), store, Wanted(difference, **{"assume": CLEAR, **wanted}))


def sizable(recipe: Recipe) -> Sizable:
    subject = subject_of(recipe)
    return Sizable(recipe, subject.evaluation, subject.benchmark)


# What designs cost, and how they are set.


@pytest.mark.parametrize(
    ("edits", "sizes"),
    [
        ((), [Size(2, 16), Size(7, 32, 1, 1), Size(20, 12, 1, 4)]),
        (
            ("primary={metric: mt_bench.score}",),
            [Size(2, 16), Size(5, 16, 2), Size(20, 16, 4)],
        ),
        (
            ("primary={metric: mt_bench.score}", "training.sft={epochs: 1}", FREE),
            [Size(3, 16), Size(11, 16, 4)],
        ),
    ],
    ids=["alpaca_eval", "mt_bench", "fine-tuned first, free"],
)  # fmt: skip
def test_costs_are_those_of_the_edited_recipe(recipe: Path, edits: tuple[str, ...], sizes: list[Size]) -> None:
    study_with, store = with_edits(recipe, *edits), Store(recipe.parent / "store")

    def estimates(more: Sequence[str]) -> Estimates:
        return Estimates(make_study_plan(study_with(more)), store)

    settings = sizable(study_with(()).cells[0].recipe)
    costs = Costs(settings, estimates)
    for size in sizes:
        planned, told = costs.of(size), estimates(settings.edits(size)).together
        assert planned.trained == pytest.approx(told.trained, rel=0.05)
        assert planned.generated == pytest.approx(told.generated, rel=0.05)
        assert planned.scored == pytest.approx(told.scored, rel=0.05)
        assert planned.dollars == pytest.approx(told.dollars, rel=0.05)
        assert planned.at_most == pytest.approx(told.at_most, rel=0.05)
        if size.verdicts == 1:  # a plan counts one call a turn, however often a pair is shown
            assert planned.seconds == pytest.approx(told.seconds, rel=0.05)
            assert planned.calls == pytest.approx(told.calls, rel=0.05)


SETTINGS = {
    "one seed": (),
    "seeds": ("training.seeds=[7, 8, 9]",),
    "seeds of a method": ("methods.1.training={seeds: [3], epochs: 2}", "methods.1.match=null"),
    "gates and a reference": (
        "gates=[{row: multi-dpo, baseline_row: dpo}, {row: dpo, metric: heldout.pair_accuracy, min: 0.5}]",
        "evaluation.benchmarks.0.reference=dpo",
    ),
    "both orders": ("evaluation.benchmarks.0.orders=both",),
    "ratings": ("primary.metric=mt_bench.score", "evaluation.benchmarks.1.samples=2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("edits", SETTINGS.values(), ids=SETTINGS)
def test_every_design_can_be_set(recipe: Path, edits: tuple[str, ...]) -> None:
    settings = sizable(with_edits(recipe, *edits)(()).cells[0].recipe)
    smallest = Size(2, settings.prompts[-1], settings.answers[0], min(settings.verdicts))
    largest = Size(5, settings.prompts[0], settings.answers[-1], max(settings.verdicts))
    for size in (smallest, largest):
        study = with_edits(recipe, *edits)(settings.edits(size))
        assert sizable(study.cells[0].recipe).own == size
        assert make_study_plan(study).rows
        arms = arms_of(study.cells[0].recipe)
        first, second = ({arm.seed for arm in arms if arm.method.id == method} for method in ("dpo", "multi-dpo"))
        assert first == second
    assert settings.edits(settings.own) == []


def test_seeds_of_the_recipe_come_first(recipe: Path) -> None:
    """So that what is trained already is not trained again; a recipe without seeds has trained with its own."""
    first = with_edits(recipe)(()).cells[0].recipe
    assert sizable(first).edits(Size(3, 12)) == ["training.seeds=[5, 0, 1]"]
    several = with_edits(recipe, "training.seeds=[7, 1]")(()).cells[0].recipe
    assert sizable(several).edits(Size(4, 12)) == ["training.seeds=[7, 1, 0, 2]"]
    plans = [make_study_plan(with_edits(recipe)(edits)) for edits in ((), ("training.seeds=[5, 0, 1]",))]
    trained = [{stage.key for stage in plan.stages if stage.name == "train"} for plan in plans]
    assert trained[0] < trained[1]


def test_what_can_be_set(recipe: Path) -> None:
    def settings(*edits: str) -> Sizable:
        return sizable(with_edits(recipe, *edits)(()).cells[0].recipe)

    assert settings().prompts == [32, 24, 12]
    assert settings().answers == [1]
    assert settings().verdicts == {
        1: [],
        2: ["evaluation.benchmarks.0.orders=both"],
        4: ["evaluation.benchmarks.0.orders=both", "evaluation.benchmarks.0.samples=2"],
        8: ["evaluation.benchmarks.0.orders=both", "evaluation.benchmarks.0.samples=4"],
    }
    local = "evaluation.judge={name: local, model: smollm2-135m-instruct}"
    assert settings(local).verdicts == {1: [], 2: ["evaluation.benchmarks.0.orders=both"]}
    ratings = settings("primary.metric=mt_bench.score")
    assert (ratings.answers, ratings.verdicts) == ([1, 2, 4], {1: []})
    questions = ratings.benchmark.load_questions()
    by_chance = sum(question.temperature > 0 for question in questions) / len(questions)
    assert 0 < by_chance < 1
    assert ratings.inverse(4) == pytest.approx(by_chance / 4 + 1 - by_chance)
    greedy = settings("primary.metric=mt_bench.score", "evaluation.answers.temperature=0")
    assert greedy.answers == [1]


# What they show.


def test_the_cheapest_design_that_shows_it_comes_first(recipe: Path) -> None:
    """A judge that varies much: it can be asked several times, or more can be trained."""
    said = "training=0.6,prompts=4,rest=4,judge=60"
    difference = 1.2 * found(recipe, 0.01, assume=said).largest[1]
    detection = found(recipe, difference, assume=said)
    assert 1 < len(detection.options) <= 8
    dollars = [option.cost.dollars or 0.0 for option in detection.options]
    assert dollars == sorted(dollars)
    for option in detection.options:
        assert option.power is not None
        assert option.power >= 0.8
        assert option.detectable <= 1.01 * difference
        parts = detection.spread.parts(verdicts=option.size.verdicts)
        fewer = Design(option.size.seeds - 1, option.size.prompts)
        assert option.size.seeds == 2 or power(difference, parts, fewer) < 0.8
    assert detection.own.size == Size(1, 12)
    assert detection.own.power is None


def test_the_command_for_the_first_design_gives_it(recipe: Path) -> None:
    detection = found(recipe, 20.0)
    command = first_command(detection, "planned.yaml", ["seed=5"], None)
    assert command is not None
    words = shlex.split(command)
    assert words[:3] == ["harness", "run", "planned.yaml"]
    edits = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    cheapest = with_edits(recipe)(edits).cells[0].recipe
    assert sizable(cheapest).own == detection.options[0].size


@pytest.mark.slow
def test_by_time_where_judges_are_free(recipe: Path) -> None:
    detection = found(recipe, 20.0, FREE)
    seconds = [option.cost.seconds for option in detection.options]
    assert seconds == sorted(seconds)


def test_the_recipe_s_own_design_is_one_of_them(recipe: Path) -> None:
    first = found(recipe, 20.0).options[0]
    detection = found(recipe, 20.0, *first.edits)
    (own,) = [option for option in detection.options if option.is_own]
    assert own == detection.own
    assert own.edits == ()
    design = Design(own.size.seeds, own.size.prompts)
    assert own.detectable == pytest.approx(detectable(detection.spread.parts(), design), rel=0.01)
    assert own.power == pytest.approx(power(20.0, detection.spread.parts(), design))


@pytest.mark.slow
def test_several_comparisons_are_one_family(recipe: Path) -> None:
    """Holm's first step: each of two comparisons needs p < 0.025."""
    losses = {"a": "dpo_best_worst", "b": "mdpo_linear", "c": "sdpo"}
    third = f"methods=[{', '.join(f'{{id: {method}, loss: {{name: {loss}}}}}' for method, loss in losses.items())}]"
    size = ("training.seeds=[1, 2, 3]", "evaluation.benchmarks.0.limit=32")
    three = found(recipe, 16.0, third, *size)
    two = found(recipe, 16.0, *size)
    assert three.subject.pairs == (("b", "a"), ("c", "a"))
    assert three.own.power is not None
    assert two.own.power is not None
    assert three.own.power < two.own.power
    named = found(recipe, 16.0, third, *size, "primary.comparisons=[[c, b]]")
    assert named.own.power == pytest.approx(two.own.power)


def test_the_untrained_base_adds_no_training(recipe: Path) -> None:
    one = found(recipe, 20.0, "methods=[{id: a, loss: {name: dpo_best_worst}}]")
    assert one.subject.pairs == (("a", "base"),)
    assert one.spread.training == pytest.approx(0.6)
    assert found(recipe, 20.0).spread.training == pytest.approx(0.6 * math.sqrt(2))


def test_where_nothing_in_reach_shows_it_the_largest_design_says_what_it_shows(recipe: Path) -> None:
    detection = found(recipe, 0.01)
    assert detection.options == ()
    size, smallest = detection.largest
    assert size == Size(20, 32, 1, 8)
    assert 0.01 < smallest < math.inf
    assert found(recipe, 1.01 * smallest).options


@pytest.mark.parametrize("seeds", [2, 5])
def test_the_predicted_standard_error_is_the_realised_one(seeds: int) -> None:
    parts, n = Parts(1.7, 12.0, 38.0, 10.0, 100.0), 100
    rng = np.random.default_rng(seeds)

    def simulated() -> float:
        by_seed = rng.normal(0, parts.training, (seeds, 1))
        by_prompt = rng.normal(0, parts.prompts, (1, n))
        rest = rng.normal(0, math.hypot(parts.rest, parts.judge), (seeds, n))
        return crossed((by_seed + by_prompt + rest).tolist(), parts.reach).value

    realised = np.std([simulated() for _ in range(800)])
    assert stderr(parts, Design(seeds, n)) == pytest.approx(realised, rel=0.1)


# What differences vary by.


def pilot_board(folder: Path, rows: list[Entry]) -> Path:
    (folder / "entries").mkdir(parents=True)
    for row in rows:
        (folder / "entries" / f"{row.id}.json").write_text(row.model_dump_json(exclude_unset=True))
    return folder


def simulated_pilot(folder: Path, seeds: int, prompts: int) -> tuple[Path, np.ndarray]:
    """A board of two methods, and the differences between them: [seeds, prompts]."""
    values = differences(np.random.default_rng(1), Setting(2.3, seeds, prompts, True), 3.0)
    first, second = (np.clip(50 + (x - 50) / 2, 0, 100) for x in values)  # half as wide, and within the limits
    return pilot_board(folder / "pilot", entries((first, second))), first - second


def test_a_pilot_shows_what_differences_vary_by(recipe: Path, tmp_path: Path) -> None:
    """As an analysis of variance of its two-way table does."""
    pilot, apart = simulated_pilot(tmp_path, 6, 400)
    spread = found(recipe, 25.0, pilot=pilot, assume="").spread
    by_seed, by_prompt = apart.mean(1, keepdims=True), apart.mean(0, keepdims=True)
    seeds, prompts = apart.shape
    rest = ((apart - by_seed - by_prompt + apart.mean()) ** 2).sum() / ((seeds - 1) * (prompts - 1))
    assert spread.training == pytest.approx(math.sqrt(by_seed.var(ddof=1) - rest / prompts))
    assert spread.prompts == pytest.approx(math.sqrt(by_prompt.var(ddof=1) - rest / seeds))
    assert spread.lasting == pytest.approx(math.sqrt(rest))
    assert (spread.sampling, spread.judge) == (0.0, 0.0)  # nothing shows that more answers or verdicts would help
    assert "as the pilot shows, over 6 seeds" in spread.sources["training"]


def test_a_pilot_of_one_seed_leaves_trainings_to_the_prior(recipe: Path, tmp_path: Path) -> None:
    pilot, apart = simulated_pilot(tmp_path, 1, 200)
    spread = found(recipe, 25.0, pilot=pilot, assume="").spread
    assert spread.training == pytest.approx(1.2 * math.sqrt(2))
    assert "one seed: assumed" in spread.sources["training"]
    assert math.hypot(spread.prompts, spread.lasting) == pytest.approx(apart.std(ddof=1))
    given = found(recipe, 25.0, pilot=pilot, assume="training=0.5,prompts=3").spread
    assert (given.training, given.prompts) == pytest.approx((0.5 * math.sqrt(2), 3.0))


def test_rows_of_a_pilot_that_hardly_differ_prove_nothing(recipe: Path, tmp_path: Path) -> None:
    one = np.random.default_rng(0).normal(50, 10, (1, 10))
    pilot = pilot_board(tmp_path / "pilot", entries((one + 0.1 * np.eye(1, 10), one)))
    spread = found(recipe, 25.0, pilot=pilot, assume="").spread
    assert (spread.prompts, spread.sampling) == (12.0, 38.0)
    assert "hardly differ" in spread.sources["prompts"]


def test_trainings_of_a_pilot_that_happen_to_agree_prove_nothing(recipe: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(50, 5, (2, 2, 100))
    for method in (one, other):
        method[1] += method[0].mean() - method[1].mean()
    pilot = pilot_board(tmp_path / "pilot", entries((one, other)))
    spread = found(recipe, 25.0, pilot=pilot, assume="").spread
    assert spread.training == pytest.approx(1.2 * math.sqrt(2))
    assert "happen to agree" in spread.sources["training"]


def test_several_answers_to_a_prompt_tell_what_more_of_them_average_away(recipe: Path, tmp_path: Path) -> None:
    """Two answers to each of 300 questions: 1 rating point of chance, and 0.5 that a training does to a question."""
    rng = np.random.default_rng(0)
    rows = entries((np.zeros((4, 2)), np.zeros((4, 2))))
    for i, row in enumerate(rows):
        ratings = rng.normal(5, 0.5, (300, 1)) + rng.normal(0, 1, (300, 2))
        values = {
            f"{q}{'' if k == 0 else '#2'}": float(x) for q, both in enumerate(ratings) for k, x in enumerate(both)
        }
        score = Metric(value=float(ratings.mean()), n=300)
        rated = row.model_copy(update={"metrics": {"mt_bench.score": score}, "outcomes": {"mt_bench": values}})
        rows[i] = with_provenance(rated, benchmarks={"mt_bench": {}})
    pilot = pilot_board(tmp_path / "pilot", rows)
    spread = found(recipe, 0.5, "primary.metric=mt_bench.score", pilot=pilot, assume="").spread
    assert spread.sampling == pytest.approx(math.sqrt(2), rel=0.1)
    assert spread.lasting == pytest.approx(0.5 * math.sqrt(2), rel=0.3)
    assert spread.parts(answers=1 / 4).rest == pytest.approx(math.sqrt(2 * 0.25 + 2 / 4), rel=0.1)


# The command.


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `harness plan`; returns its exit code, and what it prints."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("OPENAI_API_KEY", "none")

    def run(*arguments: str | Path) -> tuple[int, str]:
        try:
            code = app(["plan", *map(str, arguments)], standalone_mode=False) or 0
        except BaseException as error:
            code = as_exit_code(error)
        shown = capsys.readouterr()
        assert not code or not shown.out
        return code, shown.out + shown.err

    return run


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
]


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
