"""What a recipe shows as it is, and how often its gates pass an equal row: the last lines of `harness plan`."""

import math
from collections.abc import Iterator

from harness.boards.format import number
from harness.claims.spread import Spread, spread_of
from harness.errors import DataError, RecipeError
from harness.figures import Figure
from harness.gate.baseline import power_of_equal
from harness.gate.margins import given_margin
from harness.memo import remembering
from harness.pipeline.detect.designs import Sizable
from harness.pipeline.detect.search import Designs, Wanted
from harness.pipeline.detect.subject import Subject, figures_of, subject_of
from harness.recipe.load import Study
from harness.recipe.recipe import Gate, Recipe
from harness.stats.bounds import Mean
from harness.stats.paired import POWER

TRAINED = 2
"""Rows that a gate compares, either of which may be trained."""


def power_lines(study: Study) -> list[str]:
    """What a recipe's design and its gates show, by what is assumed; nothing for a sweep, nor where nothing is compared
    or nothing is known about the figure."""
    recipe = study.cells[0].recipe
    if study.axes or recipe.evaluation is None:
        return []
    with remembering():
        lines = []
        try:
            subject = subject_of(recipe)
            lines.append(_design_line(recipe, subject, spread_of(subject.figure, subject.trained)))
        except (RecipeError, DataError):
            pass  # such a recipe can be run all the same
        return [*lines, *_gate_lines(recipe)]


def _design_line(recipe: Recipe, subject: Subject, spread: Spread) -> str:
    figure, sizable = subject.figure, Sizable(recipe, subject.evaluation, subject.benchmark)
    smallest = Designs(subject, Wanted(1.0), spread, sizable).detectable(sizable.own)
    shown = f"differences of {sized(smallest, figure)} or more" if smallest < math.inf else "no difference of any size"
    several = f" in each of {len(subject.pairs)} comparisons" if len(subject.pairs) > 1 else ""
    one_seed = ""
    if sizable.own.seeds == 1:
        one_seed = ", and between two checkpoints only: one training seed says nothing about methods"
    return (
        f"By {named(figure)}, this design shows {shown} with {percent(POWER)} power{several} (assumed: "
        f"{', '.join(spread_words(spread, figure))}){one_seed}. For other designs: harness plan --detect."
    )


def spread_words(spread: Spread, figure: Figure) -> list[str]:
    """The standard deviations by the names that `--assume` has for them."""
    decimals = figure.difference_decimals
    return [f"{name} {number(x, decimals)}" for name, x in spread.said.items() if name != "judge" or x > 0]


def named(figure: Figure) -> str:
    """`AlpacaEval win rate`."""
    return f"{figure.group} {figure.title}".strip()


def sized(difference: float, figure: Figure) -> str:
    """A difference with its unit."""
    return number(difference, figure.difference_decimals) + (" points" if figure.in_percent else "")


def percent(share: float) -> str:
    """`80 %`."""
    return f"{100 * share:.0f} %"


def _gate_lines(recipe: Recipe) -> Iterator[str]:
    """The power of each gate that compares two rows by a benchmark's figure, for a row that is equal to the other."""
    figures = figures_of(recipe.evaluation) if recipe.evaluation else {}
    for gate in recipe.gates:
        if gate.metric in figures and (gate.baseline is not None or gate.baseline_row is not None):
            figure, number = figures[gate.metric]
            yield f"Gate: {gate.row} against {_other(gate)}, {figure.metric}: {_power(recipe, gate, figure, number)}"


def _other(gate: Gate) -> str:
    return gate.baseline_row or (gate.baseline.name if gate.baseline else "")


def _power(recipe: Recipe, gate: Gate, figure: Figure, benchmark: int) -> str:
    margin = given_margin(gate.margin, figure)
    if isinstance(margin, str):
        return f"{margin}."
    if margin.share > 0:
        return f"its power depends on the baseline's value, of which its margin is {percent(margin.share)}."
    assert recipe.evaluation
    prompts = Sizable(recipe, recipe.evaluation, benchmark).own.prompts
    try:
        spread = spread_of(figure, TRAINED)
    except DataError:
        return "how this figure varies is not known before a run."
    share = equal_passes(spread, prompts, margin.points, gate.alpha)
    said = ", ".join(spread_words(spread, figure)[1:])
    return (
        f"with {prompts:,} prompts and margin {margin.points:g}, an equal row passes with {percent(share)} power "
        f"(assumed: {said})."
    )


def equal_passes(spread: Spread, prompts: int, margin: float, alpha: float) -> float:
    """The probability that a gate passes a checkpoint whose true figure is its baseline's."""
    parts = spread.parts()
    stderr = math.hypot(parts.prompts, parts.rest) / math.sqrt(prompts)
    return power_of_equal(Mean(0.0, stderr, prompts, 0.0, parts.reach, prompts - 1), margin, alpha)
