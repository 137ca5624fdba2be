"""The recipe's `sweep`: alternatives for any of its fields, which make many recipes of one."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, field_validator, model_validator

from harness.errors import nearest, quoted
from harness.recipe.plain_yaml import FieldPath
from harness.recipe.training import TrainingSeed
from harness.types import RecipeSection

LONGEST = 40
"""Characters of a value's name."""
_WORDS = {None: "none", True: "true", False: "false"}
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


class Alternative(NamedTuple):
    """One of a field's values, its name on boards, and where it stands in the sweep."""

    label: str
    value: Any
    place: FieldPath


def _alternatives(value: Any, labels: Callable[[Sequence[Any]], list[str]] | None = None) -> Any:
    """A list of values, or a mapping of names to values, as alternatives. `labels` names those of a list."""
    if isinstance(value, Mapping):
        for name in value:
            if not _SAFE.fullmatch(str(name)):
                raise ValueError(
                    f"{quoted(str(name))} names a value: expected letters, digits, '.', '_' or '-', at most {LONGEST}"
                )
        found = tuple(Alternative(str(name), v, (str(name),)) for name, v in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        found = tuple(Alternative(label, value[i], (i,)) for i, label in enumerate((labels or _labels)(value)))
    else:
        raise ValueError("expected a list of values, or a mapping of names to values")
    if not found:
        raise ValueError("expected at least one value")
    return found


def _together(value: Any) -> Any:
    """Alternatives that are told apart by what they are varied together with: one may stand there several times."""
    return _alternatives(value, lambda values: [_label(v) for v in values])


Alternatives = Annotated[tuple[Any, ...], BeforeValidator(lambda value: _alternatives(value))]
Together = Annotated[tuple[Any, ...], BeforeValidator(_together)]


def _labels(values: Sequence[Any]) -> list[str]:
    """A name a value: a word or number as it is, a component's name; what tells them apart where names are equal."""
    names = [_label(value) for value in values]
    for name in {n for n in names if names.count(n) > 1}:
        places = [i for i, n in enumerate(names) if n == name]
        leaves = [dict(_leaves(values[i])) for i in places]
        differing = [
            k for k in dict.fromkeys(k for leaf in leaves for k in leaf) if len({leaf.get(k) for leaf in leaves}) > 1
        ]
        for i, leaf in zip(places, leaves, strict=True):
            names[i] = _clean("-".join([name, *(leaf.get(k, "default") for k in differing)]))
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(
            f"several values would be named {quoted(repeated[0])}; name them: a mapping, {{name: value, ...}}"
        )
    return names


def _label(value: Any) -> str:
    if isinstance(value, Mapping):
        return _clean(str(value.get("id") or value.get("name") or "value"))
    if isinstance(value, list | tuple):
        return _clean("-".join(_label(item) for item in value)) if value else "none"
    return _clean(_WORDS.get(value, "") if value is None or isinstance(value, bool) else str(value))


def _clean(text: str) -> str:
    """Letters, digits and `._-` only: a row's name becomes a file's. Of a path the last part."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text.rsplit("/", 1)[-1]).strip("-.")[:LONGEST] or "value"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _leaves(item, f"{path}.{i}")
    else:
        yield path, _label(value)


class Axis(NamedTuple):
    """What is varied. `name`: on boards; `choices`: of each of its values, the name and the edits (field, value, place
    in the sweep) that make it."""

    name: str
    fields: tuple[str, ...]
    choices: tuple[tuple[str, tuple[tuple[str, Any, FieldPath], ...]], ...]


class Combination(NamedTuple):
    """One cell: its values' names by axis, and the edits that make its recipe."""

    settings: dict[str, str]
    edits: tuple[tuple[str, Any, FieldPath], ...]

    @property
    def id(self) -> str:
        return cell_id(self.settings)


def cell_id(settings: Mapping[str, str]) -> str:
    """`n-4.reward-length`; a named cell is called by its name."""
    return ".".join(label if axis == "cell" else f"{axis}-{label}" for axis, label in settings.items())


class Sweep(RecipeSection):
    """Alternatives for fields of the recipe (named as for `--set`), each a list of values or a mapping of names to
    values. A cell is the recipe with one value for each: every combination of `grid`, `zip`, `cells` and `seeds`.
    Fields may also stand in `sweep` itself, without `grid`."""

    grid: dict[str, Alternatives] = Field(default_factory=dict)
    """Every combination of these."""
    zip: dict[str, Together] = Field(default_factory=dict)
    """Varied together: all first values, all second values, and so on."""
    cells: list[dict[str, Any]] = Field(default_factory=list)
    """Named combinations: `id`, and the fields that it sets."""
    seeds: Annotated[tuple[TrainingSeed, ...], Field(min_length=1)] | None = None
    """The recipe's `seed`, varied: the whole run anew, its data too. `training.seeds` repeats the trainings only."""
    exclude: list[dict[str, Any]] = Field(default_factory=list)
    """Combinations to leave out: those that have all of an item's values (or their names)."""
    max_cells: int = Field(1000, ge=1)
    """More cells than this are refused."""

    @model_validator(mode="before")
    @classmethod
    def _fields_are_a_grid(cls, given: Any) -> Any:
        """Fields that stand in `sweep` itself are varied as those in `grid` are."""
        if not isinstance(given, dict):
            return given
        grid = given.get("grid") or {}
        inner = {k: v for k, v in given.items() if isinstance(k, str) and re.search(r"[.\[]", k)}
        if not inner or not isinstance(grid, dict) or inner.keys() & grid.keys():
            return given
        return {**{k: v for k, v in given.items() if k not in inner}, "grid": {**grid, **inner}}

    @field_validator("zip")
    @classmethod
    def _equally_many(cls, value: dict[str, Any]) -> dict[str, Any]:
        counts = {field: len(values) for field, values in value.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{field} has {count}" for field, count in counts.items())
            raise ValueError(f"varied together, and not equally many: {told}")
        rows = ["-".join(a.label for a in row) for row in zip(*value.values(), strict=True)]
        if repeated := sorted({row for row in rows if rows.count(row) > 1}):
            raise ValueError(f"several rows would be named {quoted(repeated[0])}; change or name one of their values")
        return value

    @field_validator("cells")
    @classmethod
    def _named(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        ids = [cell.get("id") for cell in value]
        for name in ids:
            if not isinstance(name, str) or not _SAFE.fullmatch(name):
                raise ValueError(
                    "expected an `id` in each cell: letters, digits, '.', '_' or '-', starting with a letter or digit"
                )
        if repeated := sorted({str(i) for i in ids if ids.count(i) > 1}):
            raise ValueError(f"expected each id once; repeated: {', '.join(repeated)}")
        return value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value and len(set(value)) < len(value):
            raise ValueError("expected each seed once")
        return value

    @model_validator(mode="after")
    def _each_field_once(self) -> "Sweep":
        fields = [f for axis in self.axes() for f in axis.fields]
        if repeated := sorted({f for f in fields if fields.count(f) > 1}):
            raise ValueError(f"{repeated[0]} is varied twice; name it in one place")
        if not fields and (self.cells or self.exclude):
            raise ValueError("nothing is varied; give grid, zip, cells or seeds")
        return self

    @field_validator("exclude")
    @classmethod
    def _of_fields(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if any(not item for item in value):
            raise ValueError("an empty item would leave out everything")
        return value

    def axes(self) -> list[Axis]:
        """What is varied, in the order of the recipe: `cells`, `grid`, `zip`, `seeds`."""
        found: list[tuple[tuple[str, ...], Any]] = []
        if self.cells:
            choices = tuple(
                (
                    cell["id"],
                    tuple((f, v, ("cells", i, f)) for f, v in cell.items() if f != "id"),
                )
                for i, cell in enumerate(self.cells)
            )
            fields = tuple(dict.fromkeys(f for cell in self.cells for f in cell if f != "id"))
            found.append((fields, choices))
        for field, values in self.grid.items():
            found.append(((field,), tuple((a.label, ((field, a.value, ("grid", field, *a.place)),)) for a in values)))
        if self.zip:
            rows = list(zip(*self.zip.values(), strict=True))
            choices = tuple(
                (
                    "-".join(a.label for a in row),
                    tuple((f, a.value, ("zip", f, *a.place)) for f, a in zip(self.zip, row, strict=True)),
                )
                for row in rows
            )
            found.append((tuple(self.zip), choices))
        if self.seeds:
            found.append((("seed",), tuple((str(s), (("seed", s, ("seeds", i)),)) for i, s in enumerate(self.seeds))))
        names = _names([fields for fields, _ in found])
        return [
            Axis("cell" if self.cells and i == 0 else name, fields, choices)
            for i, (name, (fields, choices)) in enumerate(zip(names, found, strict=True))
        ]

    def combinations(self) -> list[Combination]:
        """All cells. Raises ValueError where they are none or too many, or where `exclude` names something else."""
        axes = self.axes()
        count = 1
        for axis in axes:
            count *= len(axis.choices)
        if count > 100 * self.max_cells:  # before exclusions: not even looked through
            raise ValueError(f"{count:,} cells; expected at most max_cells, which is {self.max_cells:,}")
        excluded = [self._excluded(item, axes) for item in self.exclude]
        found = []
        for choices in product(*(axis.choices for axis in axes)):
            settings = {axis.name: label for axis, (label, _) in zip(axes, choices, strict=True)}
            if not any(all(settings[name] in labels for name, labels in item.items()) for item in excluded):
                found.append(Combination(settings, tuple(edit for _, edits in choices for edit in edits)))
        if not found:
            raise ValueError("every cell is excluded")
        if len(found) > self.max_cells:
            raise ValueError(f"{len(found):,} cells; expected at most max_cells, which is {self.max_cells:,}")
        return found

    def _excluded(self, item: Mapping[str, Any], axes: Sequence[Axis]) -> dict[str, set[str]]:
        """Of each axis that an exclusion names, the labels that it means."""
        found: dict[str, set[str]] = {}
        known = {name: axis for axis in axes for name in (*axis.fields, axis.name)}
        for name, wanted in item.items():
            if name not in known:
                raise ValueError(f"exclude: {quoted(name)} is not varied; {nearest(name, known, 'expected one of')}")
            axis = known[name]
            labels = {
                label
                for label, edits in axis.choices
                if (not isinstance(wanted, Mapping | list) and label == _label(wanted))
                or any(f == name and v == wanted for f, v, _ in edits)
            }
            if not labels:
                there = ", ".join(label for label, _ in axis.choices)
                raise ValueError(f"exclude: {name} has no value {quoted(_label(wanted))}; expected one of: {there}")
            found[axis.name] = found.get(axis.name, labels) & labels
        return found


def _names(fields: Sequence[tuple[str, ...]]) -> list[str]:
    """Of each axis a short name: the last part of its first field, with more parts where that is not enough."""
    paths = [re.findall(r"[A-Za-z0-9_-]+", axis[0]) if axis else ["cell"] for axis in fields]
    depth = [1] * len(paths)
    while True:
        names = ["_".join(path[-d:]) for path, d in zip(paths, depth, strict=True)]
        clash = [i for i, name in enumerate(names) if names.count(name) > 1 and depth[i] < len(paths[i])]
        if not clash:
            return names
        for i in clash:
            depth[i] += 1
