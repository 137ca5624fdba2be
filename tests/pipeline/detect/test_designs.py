"""Designs that show a difference: what they cost, that a recipe takes them, and that they vary as predicted."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.engine.store import Store
from harness.pipeline.detect.designs import Costs, Sizable, Size
from harness.pipeline.detect.view import first_command
from harness.pipeline.estimates import Estimates
from harness.pipeline.study import make_study_plan
from harness.recipe.arms import arms_of
from harness.stats.crossed import crossed
from harness.stats.power import Design, Parts, detectable, power, stderr
from tests.pipeline.detect.planned import FREE, found, sizable, with_edits

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
