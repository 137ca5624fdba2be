"""Cells of a sweep and methods of a recipe: which rows differ in one setting only.

Each value of an axis is compared with the axis's first value. The methods of the recipe are an axis too. What a row was
trained and measured with is its cell; the training seed is a setting of its own.
"""

import json
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from harness.boards.entry import Entry, stands_for_its_method
from harness.boards.facts import row_costs
from harness.boards.provenance import SweepFacts

METHOD = "method"
RUN_SEED, TRAINING_SEED = "seed", "training seed"
SEEDS = (RUN_SEED, TRAINING_SEED)
"""Settings of a cell that repeat a training rather than vary it."""


class SweepAxis(NamedTuple):
    """An axis of a sweep: its name, the recipe's fields, and the names of its values in order."""

    name: str
    fields: tuple[str, ...]
    values: tuple[str, ...]


class Level(NamedTuple):
    """The rows of one value: their number, each metric's mean over them, and the mean costs of a row."""

    value: str
    rows: int
    figures: dict[str, float]
    costs: dict[str, float]


class CellRow(NamedTuple):
    """A row in one of its cells: its method and the cell's settings."""

    method: str
    settings: frozenset[tuple[str, str]]
    entry: Entry


def axes_of(entries: Iterable[Entry]) -> list[SweepAxis]:
    """The axes of the rows' sweep, the methods last where there are several; empty for a board without a sweep."""
    for entry in entries:
        if entry.provenance.sweep and entry.provenance.sweep.axes:
            axes = [SweepAxis(axis.name, axis.fields, axis.values) for axis in entry.provenance.sweep.axes]
            methods = tuple(dict.fromkeys(row.method for row in cell_rows(entries)))
            return [*axes, *([SweepAxis(METHOD, ("methods",), methods)] if len(methods) > 1 else [])]
    return []


def cell_rows(entries: Iterable[Entry]) -> list[CellRow]:
    """Every trained row in each of its cells; in a single cell where there is no sweep."""
    rows = []
    for entry in entries:
        about, sweep = entry.provenance, entry.provenance.sweep or SweepFacts()
        if about.training is None or not stands_for_its_method(entry):
            continue
        method = about.method_id or (about.checkpoint.row if about.checkpoint else None) or sweep.row or entry.id
        seed = [] if about.training_seed is None else [(TRAINING_SEED, str(about.training_seed))]
        chosen = about.selection.over if about.selection else ()
        cells = {frozenset(item for item in cell.items() if item[0] not in chosen) for cell in sweep.cells or ({},)}
        rows += [CellRow(method, frozenset([*cell, *seed]), entry) for cell in sorted(cells, key=sorted)]
    return rows


def levels(entries: Sequence[Entry], axis: SweepAxis) -> list[Level]:
    """The axis's values that have rows, in order, with the means over their rows."""
    members = cell_rows(entries)
    result = []
    for value in axis.values:
        rows = {row.entry.id: row.entry for row in members if setting_of(row, axis.name) == value}
        if rows:
            metrics = {name for entry in rows.values() for name in entry.metrics}
            figures = {
                name: fmean(scores)
                for name in metrics
                if (scores := [x for e in rows.values() if (x := e.value(name)) is not None])
            }
            result.append(Level(value, len(rows), figures, _mean_costs(rows.values())))
    return result


def by_method(entries: Sequence[Entry], axis: SweepAxis, metric: str) -> dict[str, dict[str, float]]:
    """Method -> value of the axis -> the metric's mean over their rows."""
    cells: dict[str, dict[str, dict[str, float]]] = {}
    for row in cell_rows(entries):
        if (score := row.entry.value(metric)) is not None and (value := setting_of(row, axis.name)) is not None:
            cells.setdefault(row.method, {}).setdefault(value, {})[row.entry.id] = score
    return {
        method: {value: fmean(scores.values()) for value, scores in by_value.items()}
        for method, by_value in cells.items()
    }


def setting_of(row: CellRow, axis: str) -> str | None:
    """The row's value of an axis."""
    return row.method if axis == METHOD else dict(row.settings).get(axis)


RowPair = tuple[frozenset[tuple[str, str]], Entry, Entry]
"""(settings, row with the value, row with the axis's first value)."""


def row_pairs(rows: Sequence[CellRow], axis: SweepAxis, value: str, *, across_runs: bool = False) -> list[RowPair]:
    """All pairs of a row with the value and a row with the axis's first value that differ in nothing else. Outside of a
    sweep they come from one run, unless `across_runs`."""

    def rest(row: CellRow) -> tuple[str, str, frozenset[tuple[str, str]]]:
        method = "" if axis.name == METHOD else row.method
        run = "" if across_runs else json.dumps(run_of(row.entry), sort_keys=True, default=str)
        return run, method, frozenset(item for item in row.settings if item[0] != axis.name)

    first = {rest(row): row for row in rows if setting_of(row, axis.name) == axis.values[0]}
    pairs: dict[tuple[str, str], RowPair] = {}
    for row in rows:
        other = first.get(rest(row))
        if setting_of(row, axis.name) == value and other is not None and other.entry.id != row.entry.id:
            pairs.setdefault((row.entry.id, other.entry.id), (row.settings, row.entry, other.entry))
    return list(pairs.values())


def run_of(row: Entry) -> dict[str, Any]:
    """What the rows of one run share outside of a sweep: on a merged board two runs may differ in more than a method.
    Empty for a row of a sweep or without a recipe."""
    recipe = row.provenance.recipe
    if recipe is None or row.provenance.sweep is not None:
        return {}
    return {name: recipe.get(name) for name in ("data", "policy", "seed", "rounds")}


def _mean_costs(entries: Iterable[Entry]) -> dict[str, float]:
    by_name: dict[str, list[float]] = {}
    for entry in entries:
        for name, value in row_costs(entry).items():
            by_name.setdefault(name, []).append(value)
    return {name: fmean(amounts) for name, amounts in by_name.items()}
