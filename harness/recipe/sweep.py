"""The recipe's `sweep`: alternatives for any of its fields, which expand one recipe into many."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, field_validator, model_validator

from harness.errors import nearest, quoted
from harness.recipe.reading.plain_yaml import FieldPath
from harness.recipe.training import TrainingSeed
from harness.types import RecipeSection

MAX_LABEL = 40
"""The largest number of characters in a value's name."""
_WORDS = {None: "none", True: "true", False: "false"}
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


class Alternative(NamedTuple):
    """One of a field's values, its name on boards, and its path in the sweep."""

    label: str
    value: Any
    path: FieldPath


def _alternatives(value: Any, labels: Callable[[Sequence[Any]], list[str]] | None = None) -> Any:
    """Alternatives from a list of values or a mapping of names to values. `labels` names the values of a list."""
    if isinstance(value, Mapping):
        for name in value:
            if not _SAFE.fullmatch(str(name)):
                raise ValueError(
                    f"value name {quoted(str(name))}: expected letters, digits, '.', '_' or '-', at most {MAX_LABEL}"
                )
        alternatives = tuple(Alternative(str(name), v, (str(name),)) for name, v in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        alternatives = tuple(Alternative(label, value[i], (i,)) for i, label in enumerate((labels or _labels)(value)))
    else:
        raise ValueError("expected a list of values, or a mapping of names to values")
    if not alternatives:
        raise ValueError("expected at least one value")
    return alternatives


def _zipped_alternatives(value: Any) -> Any:
    """Alternatives of a `zip`. A value may repeat, because the other fields distinguish its rows."""
    return _alternatives(value, lambda values: [_label(v) for v in values])


Alternatives = Annotated[tuple[Any, ...], BeforeValidator(lambda value: _alternatives(value))]
ZippedAlternatives = Annotated[tuple[Any, ...], BeforeValidator(_zipped_alternatives)]


def _labels(values: Sequence[Any]) -> list[str]:
    """One name per value: a word or number itself, or a component's name. Equal names get the fields that differ."""
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
            f"several values would be named {quoted(repeated[0])}; name them with a mapping {{name: value, ...}}"
        )
    return names


def _label(value: Any) -> str:
    if isinstance(value, Mapping):
        return _clean(str(value.get("id") or value.get("name") or "value"))
    if isinstance(value, list | tuple):
        return _clean("-".join(_label(item) for item in value)) if value else "none"
    return _clean(_WORDS.get(value, "") if value is None or isinstance(value, bool) else str(value))


def _clean(text: str) -> str:
    """A text reduced to letters, digits and `._-`, because it becomes part of a file name. Of a path, the last part."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text.rsplit("/", 1)[-1]).strip("-.")[:MAX_LABEL] or "value"


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
    """What is varied. `name`: on boards. `choices`: per value, its name and the edits that set it: (field, value, path
    in the sweep)."""

    name: str
    fields: tuple[str, ...]
    choices: tuple[tuple[str, tuple[tuple[str, Any, FieldPath], ...]], ...]


class Combination(NamedTuple):
    """One cell: the names of its values by axis, and the edits that give its recipe."""

    settings: dict[str, str]
    edits: tuple[tuple[str, Any, FieldPath], ...]

    @property
    def id(self) -> str:
        return cell_id(self.settings)


def cell_id(settings: Mapping[str, str]) -> str:
    """A cell's id, such as `n-4.reward-length`; a named cell keeps its name."""
    return ".".join(label if axis == "cell" else f"{axis}-{label}" for axis, label in settings.items())


class Sweep(RecipeSection):
    """Alternatives for fields of the recipe (named as for `--set`), each a list of values or a mapping of names to
    values. A cell is the recipe with one value for each: every combination of `grid`, `zip`, `cells` and `seeds`.
    Fields may also be in `sweep` itself, without `grid`."""

    grid: dict[str, Alternatives] = Field(default_factory=dict)
    """Every combination of these."""
    zip: dict[str, ZippedAlternatives] = Field(default_factory=dict)
    """Varied together: all first values, all second values, and so on."""
    cells: list[dict[str, Any]] = Field(default_factory=list)
    """Named combinations: `id` and the fields that it sets."""
    seeds: Annotated[tuple[TrainingSeed, ...], Field(min_length=1)] | None = None
    """Values of the recipe's `seed`, which repeat the whole run, data included. `training.seeds` only repeats the
    trainings."""
    exclude: list[dict[str, Any]] = Field(default_factory=list)
    """Combinations to leave out: those with all of an item's values, given as values or by name."""
    max_cells: int = Field(1000, ge=1)
    """The largest allowed number of cells."""

    @model_validator(mode="before")
    @classmethod
    def _fields_are_a_grid(cls, section: Any) -> Any:
        """Moves fields in `sweep` itself to `grid`."""
        if not isinstance(section, dict):
            return section
        grid = section.get("grid") or {}
        inner = {k: v for k, v in section.items() if isinstance(k, str) and re.search(r"[.\[]", k)}
        if not inner or not isinstance(grid, dict) or inner.keys() & grid.keys():
            return section
        return {**{k: v for k, v in section.items() if k not in inner}, "grid": {**grid, **inner}}

    @field_validator("zip")
    @classmethod
    def _equally_many(cls, value: dict[str, Any]) -> dict[str, Any]:
        counts = {field: len(values) for field, values in value.items()}
        if len(set(counts.values())) > 1:
            lengths = ", ".join(f"{field} has {count}" for field, count in counts.items())
            raise ValueError(f"expected equally many values for each field; {lengths}")
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
            raise ValueError(f"{repeated[0]} is varied twice; keep one of them")
        if not fields and (self.cells or self.exclude):
            raise ValueError("nothing is varied; give grid, zip, cells or seeds")
        return self

    @field_validator("exclude")
    @classmethod
    def _of_fields(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if any(not item for item in value):
            raise ValueError("an empty item would exclude every cell")
        return value

    def axes(self) -> list[Axis]:
        """What is varied, in order: `cells`, `grid`, `zip`, `seeds`."""
        axes: list[tuple[tuple[str, ...], Any]] = []
        if self.cells:
            choices = tuple(
                (
                    cell["id"],
                    tuple((f, v, ("cells", i, f)) for f, v in cell.items() if f != "id"),
                )
                for i, cell in enumerate(self.cells)
            )
            fields = tuple(dict.fromkeys(f for cell in self.cells for f in cell if f != "id"))
            axes.append((fields, choices))
        for field, values in self.grid.items():
            axes.append(((field,), tuple((a.label, ((field, a.value, ("grid", field, *a.path)),)) for a in values)))
        if self.zip:
            rows = list(zip(*self.zip.values(), strict=True))
            choices = tuple(
                (
                    "-".join(a.label for a in row),
                    tuple((f, a.value, ("zip", f, *a.path)) for f, a in zip(self.zip, row, strict=True)),
                )
                for row in rows
            )
            axes.append((tuple(self.zip), choices))
        if self.seeds:
            axes.append((("seed",), tuple((str(s), (("seed", s, ("seeds", i)),)) for i, s in enumerate(self.seeds))))
        names = _names([fields for fields, _ in axes])
        return [
            Axis("cell" if self.cells and i == 0 else name, fields, choices)
            for i, (name, (fields, choices)) in enumerate(zip(names, axes, strict=True))
        ]

    def combinations(self) -> list[Combination]:
        """All cells. Raises ValueError if there are none or too many, or if `exclude` names something that is not
        varied."""
        axes = self.axes()
        count = 1
        for axis in axes:
            count *= len(axis.choices)
        if count > 100 * self.max_cells:  # before exclusions, to avoid listing them all
            raise ValueError(f"{count:,} cells; expected at most max_cells, which is {self.max_cells:,}")
        excluded = [self._excluded(item, axes) for item in self.exclude]
        cells = []
        for choices in product(*(axis.choices for axis in axes)):
            settings = {axis.name: label for axis, (label, _) in zip(axes, choices, strict=True)}
            if not any(all(settings[name] in labels for name, labels in item.items()) for item in excluded):
                cells.append(Combination(settings, tuple(edit for _, edits in choices for edit in edits)))
        if not cells:
            raise ValueError("every cell is excluded")
        if len(cells) > self.max_cells:
            raise ValueError(f"{len(cells):,} cells; expected at most max_cells, which is {self.max_cells:,}")
        return cells

    def _excluded(self, item: Mapping[str, Any], axes: Sequence[Axis]) -> dict[str, set[str]]:
        """The labels that an exclusion refers to, for each axis that it names."""
        excluded: dict[str, set[str]] = {}
        by_name = {name: axis for axis in axes for name in (*axis.fields, axis.name)}
        for name, value in item.items():
            if name not in by_name:
                raise ValueError(f"exclude: {quoted(name)} is not varied; {nearest(name, by_name, 'expected one of')}")
            axis = by_name[name]
            labels = {
                label
                for label, edits in axis.choices
                if (not isinstance(value, Mapping | list) and label == _label(value))
                or any(f == name and v == value for f, v, _ in edits)
            }
            if not labels:
                options = ", ".join(label for label, _ in axis.choices)
                raise ValueError(f"exclude: {name} has no value {quoted(_label(value))}; expected one of: {options}")
            excluded[axis.name] = excluded.get(axis.name, labels) & labels
        return excluded


def _names(fields: Sequence[tuple[str, ...]]) -> list[str]:
    """A short name per axis: the last part of its first field, with more parts where names would be equal."""
    paths = [re.findall(r"[A-Za-z0-9_-]+", axis[0]) if axis else ["cell"] for axis in fields]
    depth = [1] * len(paths)
    while True:
        names = ["_".join(path[-d:]) for path, d in zip(paths, depth, strict=True)]
        ambiguous = [i for i, name in enumerate(names) if names.count(name) > 1 and depth[i] < len(paths[i])]
        if not ambiguous:
            return names
        for i in ambiguous:
            depth[i] += 1
