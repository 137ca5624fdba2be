"""One plan for all cells of a sweep, in which everything they share is planned, run and shown once."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from harness.engine.stage import Stage
from harness.memo import remembering
from harness.pipeline.plan import Plan, make_plan
from harness.pipeline.planning.row import PlannedRow
from harness.recipe.load import Cell, Study
from harness.recipe.recipe import Gate
from harness.recipe.sweep import cell_id
from harness.stage_kinds import phase as phase_of


class StudyRow(NamedTuple):
    """A row of a study's board. `row` has its id on the board, `id_in_cell` is its id in its cell. `cells`: the cells
    that it belongs to; several share a row if the sweep does not affect it. `stands_in`: of a round, those of them
    whose last round it is, if there are any: in a sweep over `rounds`, a round is the result of one cell and a step of
    others."""

    cell: Cell
    plan: Plan
    row: PlannedRow
    id_in_cell: str
    cells: tuple[Cell, ...]
    stands_in: tuple[Cell, ...]


@dataclass(frozen=True)
class StudyPlan:
    """The plans of all cells, in order; a single one without a sweep."""

    study: Study
    plans: tuple[Plan, ...]

    @cached_property
    def needed_by(self) -> dict[str, tuple[int, ...]]:
        """The numbers of the cells that need a stage, by the stage's key."""
        cells: dict[str, dict[int, None]] = {}
        for number, plan in enumerate(self.plans):
            for stage in plan.stages:
                cells.setdefault(stage.key, {})[number] = None
        return {key: tuple(numbers) for key, numbers in cells.items()}

    @cached_property
    def stages(self) -> list[Stage]:
        """Every stage once, each after its inputs."""
        if not self.study.axes:
            return self.plans[0].stages
        first: dict[str, tuple[int, int, Stage]] = {}
        for number, plan in enumerate(self.plans):
            for position, stage in enumerate(plan.stages):
                first.setdefault(stage.key, (number, position, stage))
        return [self._named(stage) for stage in _ordered(first)]

    def _named(self, stage: Stage) -> Stage:
        """The stage with the settings that all its cells share in its id."""
        cells = [self.study.cells[i].settings for i in self.needed_by[stage.key]]
        common = {axis: label for axis, label in cells[0].items() if all(c[axis] == label for c in cells)}
        return replace(stage, id=f"{stage.id} [{cell_id(common)}]") if common else stage

    @property
    def gates(self) -> list[Gate]:
        """The recipe's gates; in a sweep, each once per cell, on the cell's rows."""
        if not self.study.axes:
            return list(self.study.cells[0].recipe.gates)
        board_ids = {(cell.id, member.id_in_cell): member.row.id for member in self.rows for cell in member.cells}
        gates: dict[str, Gate] = {}
        for cell in self.study.cells:
            for gate in cell.recipe.gates:
                rows = {
                    field: board_ids[cell.id, row]
                    for field, row in (("row", gate.row), ("baseline_row", gate.baseline_row))
                    if row is not None and (field == "row" or gate.baseline is None)
                }
                board_gate = gate.model_copy(update=rows)
                gates.setdefault(repr(board_gate), board_gate)
        return list(gates.values())

    @cached_property
    def rows(self) -> list[StudyRow]:
        """The board's rows. A row that is the same in several cells (the untrained policy, or a method that the sweep
        does not affect) is listed once. Its id includes the settings in which rows of its name differ."""
        if not self.study.axes:
            (cell,), (plan,) = self.study.cells, self.plans
            return [StudyRow(cell, plan, row, row.id, (cell,), (cell,)) for row in plan.rows]
        by_name: dict[str, dict[Any, list[tuple[Cell, Plan, PlannedRow]]]] = {}
        for cell, plan in zip(self.study.cells, self.plans, strict=True):
            for row in plan.rows:
                by_name.setdefault(row.id, {}).setdefault(_row_key(row), []).append((cell, plan, row))
        members = [row for name, groups in by_name.items() for row in _study_rows(name, list(groups.values()))]
        order = {name: i for i, name in enumerate(by_name)}
        number = {cell.id: i for i, cell in enumerate(self.study.cells)}
        shared = [r for r in members if len(r.cells) == len(self.study.cells)]
        # Rows shared by all cells first, then cell by cell.
        return shared + sorted(
            (r for r in members if r not in shared), key=lambda r: (number[r.cell.id], order[r.id_in_cell])
        )


def make_study_plan(study: Study) -> StudyPlan:
    """The plan of a recipe, or of all cells of its sweep. Raises RecipeError."""
    with remembering():
        plans = tuple(make_plan(cell.recipe) for cell in study.cells)
        return StudyPlan(study, plans)


def _ordered(first: Mapping[str, tuple[int, int, Stage]]) -> Iterable[Stage]:
    """All stages, each after its inputs: by phase, then by `serves`, then in the cells' order. `first`: for each key,
    the first cell's number, the position in it, and the stage."""
    waiting = {key: {s.key for s in stage.inputs.values() if s.key in first} for key, (_, _, stage) in first.items()}
    users: dict[str, list[str]] = {}
    for key, inputs in waiting.items():
        for input_key in inputs:
            users.setdefault(input_key, []).append(key)

    def rank(key: str) -> tuple[int, int, int, int, str]:
        number, position, stage = first[key]
        phase = phase_of(stage.name)
        return phase, -stage.serves, number, position, key

    ready = [rank(key) for key, inputs in waiting.items() if not inputs]
    heapq.heapify(ready)
    while ready:
        *_, key = heapq.heappop(ready)
        yield first[key][2]
        for user in users.get(key, ()):
            waiting[user].discard(key)
            if not waiting[user]:
                heapq.heappush(ready, rank(user))


def _row_key(row: PlannedRow) -> tuple[str, ...]:
    """Equal for equal rows. Ignores stages of an untrained policy that measure from it: on held-out pairs, and from the
    scores of its own answers."""
    zero = (row.heldout, row.rewards)
    stages = row.stages if row.policy else [s for s in row.stages if not any(s is one for one in zero)]
    return tuple(stage.key for stage in stages)


def _study_rows(name: str, groups: Sequence[Sequence[tuple[Cell, Plan, PlannedRow]]]) -> list[StudyRow]:
    """The board's rows with one id in their cells. `groups`: per row, the cells that have it."""
    axes = list(groups[0][0][0].settings)
    labels = {axis: {c.settings[axis] for group in groups for c, _, _ in group} for axis in axes}
    differing = [
        axis for axis in axes if any({c.settings[axis] for c, _, _ in group} != labels[axis] for group in groups)
    ]
    if len({tuple(group[0][0].settings[axis] for axis in differing) for group in groups}) < len(groups):
        differing = axes
    rows = []
    for group in groups:
        ends = [member for member in group if member[2].round is None or member[2].round.is_last] or group
        cell, plan, row = ends[0]
        settings = {axis: cell.settings[axis] for axis in differing}
        board_row = replace(row, id=f"{name}.{cell_id(settings)}" if settings and len(groups) > 1 else name)
        if row.policy is None and len({r.heldout.key for _, _, r in group if r.heldout}) > 1:
            # It has no single dataset: drop the held-out pairs and the stages of their data.
            board_row, plan = replace(board_row, heldout=None), Plan({}, plan.rows)
        cells, stands_in = (tuple(c for c, _, _ in members) for members in (group, ends))
        rows.append(StudyRow(cell, plan, board_row, name, cells, stands_in))
    return rows
