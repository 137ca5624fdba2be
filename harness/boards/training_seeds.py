"""A method's figures over its training seeds, from its rows (one row per seed)."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from harness.boards.entry import Entry, comparable
from harness.boards.format import bounds, number
from harness.figures import Figure
from harness.stats.intervals import Spread, spread
from harness.stats.student import quantile
from harness.types import Record

OVER_SEEDS = (
    "Mean over training seeds with its 95 % CI (Student's t over seeds): how a figure changes with the order of the "
    "data and the initialisation, on the same data and prompts. The intervals of single rows do not cover this: they "
    "are about the prompts that one checkpoint was measured on."
)
DATA_STAGES = ("seeds", "prompts", "responses", "reward", "ranked")
MOST_SETTINGS = 4
"""Settings that tell groups of one method apart: of more, the first are named."""


class SeedGroup(Record):
    """A method's rows, one per training seed, and its figures over them: mean and spread by metric name. `settings`:
    what it was trained with, where that differs between the groups of one method."""

    method_id: str
    method: str
    settings: dict[str, str] = Field(default_factory=dict)
    seeds: tuple[int, ...]
    rows: tuple[str, ...]
    metrics: dict[str, Spread]

    @property
    def label(self) -> str:
        """`dpo (n 4, reward good)`: the method and its settings."""
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"{self.method_id} ({settings})" if settings else self.method_id

    @property
    def seeds_text(self) -> str:
        """`0, 1, 2 (n=3)`."""
        return f"{', '.join(map(str, self.seeds))} (n={len(self.seeds)})"


def seed_groups(rows: Iterable[Entry]) -> list[SeedGroup]:
    """One group for the rows that differ in nothing but their training seed, in order of first appearance. Cells of a
    sweep, and rows of other recipes on a merged board, have groups of their own. All `rows` must belong to one table:
    figures by different judges or on different prompts must not be averaged."""
    groups: dict[tuple[str, str], dict[str, list[Entry]]] = {}
    for row in rows:
        method, seed = row.provenance.method_id, row.provenance.training_seed
        if method is not None and seed is not None:
            trained_with = json.dumps(_trained_with(row), sort_keys=True)
            groups.setdefault((method, row.method), {}).setdefault(trained_with, []).append(row)
    return [
        _group(method, loss, trained, settings)
        for (method, loss), by_training in groups.items()
        for trained, settings in zip(by_training.values(), _settings(list(by_training.values())), strict=True)
    ]


def varied_seed_groups(rows: Iterable[Entry]) -> list[SeedGroup]:
    """The seed groups of a table; none where each has one seed, so that a table of them would repeat the rows."""
    groups = seed_groups(rows)
    return groups if any(len(group.seeds) > 1 for group in groups) else []


def all_seed_groups(entries: Sequence[Entry]) -> list[SeedGroup]:
    """The seed groups of all tables of a board."""
    return [group for rows in comparable(entries) for group in seed_groups(rows)]


def _trained_with(row: Entry) -> dict[str, Any]:
    """All that decided a row's training except its training seed: data, policy, method and training settings. What only
    concerns evaluation, resources or names is left out."""
    about = row.provenance
    recipe = {k: v for k, v in (about.recipe or {}).items() if k in ("data", "policy", "seed", "training", "rounds")}
    methods = (about.recipe or {}).get("methods")
    for method in methods if isinstance(methods, list) else []:
        if isinstance(method, Mapping) and method.get("id") == about.method_id:
            recipe["method"] = {**method, "training": _without_seeds(method.get("training"))}
    if "training" in recipe:
        recipe["training"] = _without_seeds(recipe["training"])
    keys = {name: about.keys[name] for name in DATA_STAGES if name in about.keys}
    # Without a recipe only the cell says what was varied.
    cells = [] if about.recipe or about.sweep is None else [dict(cell) for cell in about.sweep.cells]
    return {"recipe": recipe, "seed": about.seed, "policy": about.policy, "keys": keys, "cells": cells}


def _without_seeds(training: Any) -> Any:
    return {k: v for k, v in training.items() if k != "seeds"} if isinstance(training, Mapping) else training


def _settings(groups: Sequence[Sequence[Entry]]) -> list[dict[str, str]]:
    """What tells the groups of one method apart: the settings of their cells, else the fields of their recipes, else
    the keys of their data. Empty for a single group."""
    if len(groups) == 1:
        return [{}]
    rows = [group[0] for group in groups]
    cells = [_common(row.provenance.sweep.cells) if row.provenance.sweep else {} for row in rows]
    for described in (cells, [_flat(_trained_with(row)) for row in rows]):
        differing = _differing(described)
        if len({json.dumps(settings) for settings in differing}) == len(groups):
            return [dict(list(settings.items())[:MOST_SETTINGS]) for settings in differing]
    return [{"rows": f"{group[0].id}…"} for group in groups]


def _common(cells: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The settings that all cells share."""
    first, *others = cells or [{}]
    return {name: value for name, value in first.items() if all(cell.get(name) == value for cell in others)}


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Nested settings by dotted name; what is long is cut."""
    if isinstance(value, Mapping):
        inner = {f"{name}.{key}" if name else str(key): item for key, item in value.items()}
    elif isinstance(value, list):
        inner = {f"{name}.{i}": item for i, item in enumerate(value)}
    else:
        return {name.removeprefix("recipe."): str(value)[:40]}
    return {key: text for at, item in inner.items() for key, text in _flat(item, at).items()}


def _differing(described: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    names = dict.fromkeys(name for settings in described for name in settings)
    varied = [name for name in names if len({settings.get(name) for settings in described}) > 1]
    return [{name: settings[name] for name in varied if name in settings} for settings in described]


def _group(method: str, loss: str, rows: Sequence[Entry], settings: Mapping[str, str]) -> SeedGroup:
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    values = {name: [row.value(name) for row in rows] for name in names}
    return SeedGroup(
        method_id=method,
        method=loss,
        settings=dict(settings),
        seeds=tuple(row.provenance.training_seed or 0 for row in rows),
        rows=tuple(row.id for row in rows),
        metrics={name: spread(by_seed) for name, by_seed in values.items()},
    )


def seeds_interval(spread: Spread) -> tuple[float, float] | None:
    """The 95 % confidence interval of the mean over seeds, by Student's t with one degree of freedom fewer than there
    are seeds; None for a single seed."""
    if spread.mean is None or spread.sd is None:
        return None
    reach = quantile(0.975, spread.n - 1) * spread.sd / math.sqrt(spread.n)
    return spread.mean - reach, spread.mean + reach


def spread_figure(spread: Spread, figure: Figure) -> str:
    """`53.1 [51.9, 54.3]`, within the figure's limits; without the interval where there is none; where only some seeds
    have a value, with their count."""
    if spread.mean is None:
        return f"in none of {spread.n_invalid}"
    shown = number(spread.mean, figure.decimals)
    if (interval := seeds_interval(spread)) is not None:
        least, most = figure.limits or (-math.inf, math.inf)
        low, high = bounds((max(least, interval[0]), min(most, interval[1])), figure.decimals)
        shown += f" [{low}, {high}]"
    return f"{shown} (in {spread.n} of {spread.n + spread.n_invalid})" if spread.n_invalid else shown
