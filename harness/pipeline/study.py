"""One plan of all of a sweep's cells: what they have in common is planned, run and shown once."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from harness.engine.stage import Stage
from harness.memo import remembering
from harness.pipeline.plan import Plan, PlannedRow, make_plan
from harness.recipe.load import Cell, Study
from harness.recipe.recipe import Gate
from harness.recipe.sweep import cell_id
from harness.types import phase as phase_of


class StudyRow(NamedTuple):
    """A row of a study's board. `row` has its id on the board; `own_id` is that in its cell. `cells`: those of which it
    is a row: where a sweep changes nothing for it, several have the same."""

    cell: Cell
    plan: Plan
    row: PlannedRow
    own_id: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class StudyPlan:
    """The plans of all cells, in order; of one where the recipe has no sweep."""

    study: Study
    plans: tuple[Plan, ...]

    @cached_property
    def needed_by(self) -> dict[str, tuple[int, ...]]:
        """Numbers of the cells that need a stage, by its key."""
        found: dict[str, dict[int, None]] = {}
        for number, plan in enumerate(self.plans):
            for stage in plan.stages:
                found.setdefault(stage.key, {})[number] = None
        return {key: tuple(numbers) for key, numbers in found.items()}

    @cached_property
    def stages(self) -> list[Stage]:
        """Every stage once, in an order in which they can run."""
        if not self.study.axes:
            return self.plans[0].stages
        first: dict[str, tuple[int, int, Stage]] = {}
        for number, plan in enumerate(self.plans):
            for place, stage in enumerate(plan.stages):
                first.setdefault(stage.key, (number, place, stage))
        return [self._named(stage) for stage in _ordered(first)]

    def _named(self, stage: Stage) -> Stage:
        """With the settings that all its cells have in common in its id."""
        cells = [self.study.cells[i].settings for i in self.needed_by[stage.key]]
        common = {axis: label for axis, label in cells[0].items() if all(c[axis] == label for c in cells)}
        return replace(stage, id=f"{stage.id} [{cell_id(common)}]") if common else stage

    @property
    def gates(self) -> list[Gate]:
        """The recipe's gates; of a sweep each once a cell, on the cell's own rows."""
        if not self.study.axes:
            return list(self.study.cells[0].recipe.gates)
        named = {(cell.id, made.own_id): made.row.id for made in self.rows for cell in made.cells}
        found: dict[str, Gate] = {}
        for cell in self.study.cells:
            for gate in cell.recipe.gates:
                rows = {
                    field: named[cell.id, row]
                    for field, row in (("row", gate.row), ("baseline_row", gate.baseline_row))
                    if row is not None and (field == "row" or gate.baseline is None)
                }
                made = gate.model_copy(update=rows)
                found.setdefault(repr(made), made)
        return list(found.values())

    @cached_property
    def rows(self) -> list[StudyRow]:
        """The board's rows. A row that is the same in several cells (the untrained policy, a method that nothing of the
        sweep touches) stands there once; its id has the settings in which rows of its name differ."""
        if not self.study.axes:
            (cell,), (plan,) = self.study.cells, self.plans
            return [StudyRow(cell, plan, row, row.id, (cell,)) for row in plan.rows]
        by_name: dict[str, dict[Any, list[tuple[Cell, Plan, PlannedRow]]]] = {}
        for cell, plan in zip(self.study.cells, self.plans, strict=True):
            for row in plan.rows:
                by_name.setdefault(row.id, {}).setdefault(_made_from(row), []).append((cell, plan, row))
        found = [row for name, groups in by_name.items() for row in _study_rows(name, list(groups.values()))]
        order = {name: i for i, name in enumerate(by_name)}
        number = {cell.id: i for i, cell in enumerate(self.study.cells)}
        shared = [r for r in found if len(r.cells) == len(self.study.cells)]
        # What all cells share first, then cell by cell.
        return shared + sorted(
            (r for r in found if r not in shared), key=lambda r: (number[r.cell.id], order[r.own_id])
        )


def make_study_plan(study: Study) -> StudyPlan:
    """The plan of a recipe, or of all cells of its sweep. Raises RecipeError."""
    with remembering():
        plans = tuple(make_plan(cell.recipe) for cell in study.cells)
        return StudyPlan(study, plans)


def _ordered(first: Mapping[str, tuple[int, int, Stage]]) -> Iterable[Stage]:
    """All stages, each after its inputs: by phase; of those that add to the same journals, what serves the others
    first; then as the cells have them."""
    waiting = {key: {s.key for s in stage.inputs.values() if s.key in first} for key, (_, _, stage) in first.items()}
    users: dict[str, list[str]] = {}
    for key, inputs in waiting.items():
        for needed in inputs:
            users.setdefault(needed, []).append(key)

    def rank(key: str) -> tuple[int, int, int, int, str]:
        number, place, stage = first[key]
        phase = phase_of(stage.name)
        return phase, -stage.serves, number, place, key

    ready = [rank(key) for key, inputs in waiting.items() if not inputs]
    heapq.heapify(ready)
    while ready:
        *_, key = heapq.heappop(ready)
        yield first[key][2]
        for user in users.get(key, ()):
            waiting[user].discard(key)
            if not waiting[user]:
                heapq.heappush(ready, rank(user))


def _made_from(row: PlannedRow) -> tuple[str, ...]:
    """What makes a row another one. Held-out figures of an untrained policy are zero, whatever the pairs."""
    stages = row.stages if row.policy else [*row.answers.values(), *row.verdicts.values()]
    return tuple(stage.key for stage in stages)


def _study_rows(name: str, groups: Sequence[Sequence[tuple[Cell, Plan, PlannedRow]]]) -> list[StudyRow]:
    """The rows of one name. `groups`: of each, the cells that have it."""
    axes = list(groups[0][0][0].settings)
    labels = {axis: {c.settings[axis] for group in groups for c, _, _ in group} for axis in axes}
    telling = [
        axis for axis in axes if any({c.settings[axis] for c, _, _ in group} != labels[axis] for group in groups)
    ]
    if len({tuple(group[0][0].settings[axis] for axis in telling) for group in groups}) < len(groups):
        telling = axes
    found = []
    for group in groups:
        cell, plan, row = group[0]
        settings = {axis: cell.settings[axis] for axis in telling}
        made = replace(row, id=f"{name}.{cell_id(settings)}" if settings and len(groups) > 1 else name)
        if row.policy is None and len({r.heldout.key for _, _, r in group if r.heldout}) > 1:
            # It has no data of its own: neither held-out pairs nor what they were made from.
            made, plan = replace(made, heldout=None), Plan({}, plan.rows)
        found.append(StudyRow(cell, plan, made, name, tuple(c for c, _, _ in group)))
    return found
