"""Finds the designs of a recipe that show a difference.

The power is that of the board's own test (`harness.stats.power`), at the first step of Holm's correction over the
recipe's primary comparisons. What differences vary by is assumed, or comes from a pilot board: `harness.claims.spread`.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.boards.read import read_board
from harness.claims.spread import Spread, spread_of
from harness.engine.store import Store
from harness.errors import RecipeError
from harness.memo import remembering
from harness.pipeline.detect.designs import Costs, Sizable, Size
from harness.pipeline.detect.subject import Subject, subject_of
from harness.pipeline.estimates import Cost, Estimates
from harness.pipeline.study import make_study_plan
from harness.recipe.load import Study
from harness.stats.paired import ALPHA, POWER
from harness.stats.power import Design, Parts, detectable, power, stderr

SEEDS = range(2, 21)
"""Training seeds that are tried. One says nothing about methods."""
MOST_SHOWN = 8
"""Designs that are listed."""


class Wanted(NamedTuple):
    """What is asked: the true difference to show, in the unit of the primary figure's differences, and with which
    probability. `pilot`: a board. `assume`: see `harness.claims.spread.spread_of`."""

    difference: float
    power: float = POWER
    pilot: Path | None = None
    assume: str = ""


class Option(NamedTuple):
    """A design. `power`: to show the wanted difference; None with one seed, which says nothing about methods.
    `detectable`: the smallest difference that it shows with the wanted power; with one seed, between two checkpoints.
    `stderr`: the predicted standard error of a difference. `edits`: what `--set` takes to get there."""

    size: Size
    power: float | None
    detectable: float
    stderr: float
    cost: Cost
    edits: tuple[str, ...]
    is_own: bool = False


class Detection(NamedTuple):
    """`options`: designs that show the difference, the cheapest first. `own`: the recipe as it is. `largest`: the
    largest design that was tried, and the smallest difference that it shows. `stored`: the cost of the data that the
    store has already, which every design needs."""

    subject: Subject
    wanted: Wanted
    spread: Spread
    options: tuple[Option, ...]
    own: Option
    largest: tuple[Size, float]
    stored: Cost


def detect(study_with: Callable[[Sequence[str]], Study], store: Store, wanted: Wanted) -> Detection:
    """The designs of a recipe that show a difference. `study_with`: the recipe with further edits. Raises HarnessError
    for a sweep, for a recipe without a comparison, for impossible numbers, and for a pilot without the figure."""
    _check(wanted)
    with remembering():
        study = study_with(())
        if study.axes:
            example = f"--cell {study.cells[0].id}"
            raise RecipeError(f"recipe {study.name}: each cell of a sweep is a design; choose one, as with {example}")
        recipe = study.cells[0].recipe
        subject = subject_of(recipe)
        pilot = None if wanted.pilot is None else (f"--pilot {wanted.pilot}", read_board(wanted.pilot).entries)
        spread = spread_of(subject.figure, subject.trained, wanted.assume, pilot)
        _check_range(wanted, subject, spread)
        estimates = Estimates(make_study_plan(study), store)
        sizable = Sizable(recipe, subject.evaluation, subject.benchmark)
        costs = _costs(sizable, lambda edits: Estimates(make_study_plan(study_with(edits)), store))
        designs = Designs(subject, wanted, spread, sizable)
        own = designs.option(sizable.own, estimates.together)
        options = [own if size == own.size else designs.option(size, costs.of(size)) for size in designs.found()]
        data = [stage.key for stage in estimates.plan.plans[0].data.values() if stage.key in estimates.stored]
        largest = designs.largest, designs.detectable(designs.largest)
        return Detection(subject, wanted, spread, _cheapest(options), own, largest, estimates.cost(data))


def _check(wanted: Wanted) -> None:
    if not 0 < wanted.difference < math.inf:
        raise RecipeError(f"--detect {wanted.difference:g}: expected a difference above 0, such as 2.0")
    if not ALPHA < wanted.power < 1:
        raise RecipeError(f"--power {wanted.power:g}: expected a probability between {ALPHA:g} and 1, such as 0.8")


def _check_range(wanted: Wanted, subject: Subject, spread: Spread) -> None:
    """Raises RecipeError for a difference that no two rows can have, and where nothing varies."""
    figure = subject.figure
    if figure.reach is not None and wanted.difference > figure.reach:
        most = f"{figure.reach:g}{' points' if figure.in_percent else ''}"
        raise RecipeError(f"--detect {wanted.difference:g}: two rows differ by at most {most} in {figure.metric}")
    if stderr(spread.parts(), Design(seeds=1, prompts=1)) == 0:
        raise RecipeError("--assume: every standard deviation is 0, and then any design shows any difference")


def _costs(sizable: Sizable, estimates: Callable[[Sequence[str]], Estimates]) -> Costs:
    """The costs of the designs. Where the recipe takes no other number of prompts, only its own is tried."""
    try:
        return Costs(sizable, estimates)
    except RecipeError:
        if len(sizable.prompts) == 1:
            raise
        sizable.prompts = [sizable.own.prompts]
        return Costs(sizable, estimates)


def _cheapest(options: Sequence[Option]) -> tuple[Option, ...]:
    """The cheapest designs, by dollars where judges have a price, else by time; without those that cost more, take
    longer and train no less than another one."""
    priced = all(option.cost.dollars is not None for option in options) and any(o.cost.dollars for o in options)

    def costs(option: Option) -> tuple[float, float, int]:
        return (option.cost.dollars or 0.0) if priced else option.cost.seconds, option.cost.seconds, option.size.seeds

    wanted = [option for option in options if not any(_is_less(costs(other), costs(option)) for other in options)]
    return tuple(sorted(wanted, key=costs)[:MOST_SHOWN])


class Designs:
    """The designs of a recipe, by what they show."""

    def __init__(self, subject: Subject, wanted: Wanted, spread: Spread, sizable: Sizable) -> None:
        self._level, self._wanted, self._spread, self._sizable = subject.level, wanted, spread, sizable

    @property
    def largest(self) -> Size:
        """The largest design that is tried."""
        return Size(SEEDS[-1], self._sizable.prompts[0], self._answers[-1], self._verdicts[-1])

    def found(self) -> list[Size]:
        """The designs with as few seeds as show the difference, without those that another one needs less of."""
        shapes = [
            Size(SEEDS[-1], prompts, answers, verdicts)
            for prompts in self._sizable.prompts
            for answers in self._answers
            for verdicts in self._verdicts
        ]
        sizes = [size for shape in shapes if (size := self._with_fewest_seeds(shape)) is not None]
        return [size for size in sizes if not any(_is_less(other, size) for other in sizes)]

    def _with_fewest_seeds(self, shape: Size) -> Size | None:
        fewest = bisect_left(SEEDS, True, key=lambda seeds: self._shows(shape._replace(seeds=seeds)))
        return shape._replace(seeds=SEEDS[fewest]) if fewest < len(SEEDS) else None

    def option(self, size: Size, cost: Cost) -> Option:
        """A design with what it shows."""
        parts, design = self._parts(size), Design(size.seeds, size.prompts)
        shown = power(self._wanted.difference, parts, design, self._level) if size.seeds > 1 else None
        edits, is_own = tuple(self._sizable.edits(size)), size == self._sizable.own
        return Option(size, shown, self.detectable(size), stderr(parts, design), cost, edits, is_own)

    def detectable(self, size: Size) -> float:
        """The smallest true difference that a design shows with the wanted power; infinite where it shows none."""
        parts, design = self._parts(size), Design(size.seeds, size.prompts)
        return detectable(parts, design, self._wanted.power, self._level)

    @property
    def _answers(self) -> list[int]:
        """More answers are tried only where something is known to average away."""
        return self._sizable.answers if self._spread.sampling > 0 else [self._sizable.own.answers]

    @property
    def _verdicts(self) -> list[int]:
        return list(self._sizable.verdicts) if self._spread.judge > 0 else [self._sizable.own.verdicts]

    def _parts(self, size: Size) -> Parts:
        parts = self._spread.parts(self._sizable.inverse(size.answers), size.verdicts)
        return parts if size.seeds > 1 else parts._replace(training=0.0)  # two checkpoints are what they are

    def _shows(self, size: Size) -> bool:
        return self._is_shown(self._wanted.difference, self._parts(size), Design(size.seeds, size.prompts))

    def _is_shown(self, difference: float, parts: Parts, design: Design) -> bool:
        return power(difference, parts, design, self._level) >= self._wanted.power


def _is_less(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether it is less in one respect and more in none."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
