"""A recipe file: its data, the location of every field, edits (`--set a.b=c`), and variables (`${NAME}`)."""

import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

from harness.errors import RecipeError, nearest, quoted
from harness.outside import LARGEST_SETTINGS, read_text, reason_of
from harness.printable import is_secret
from harness.recipe.reading.plain_yaml import FieldPath, Location, parse, plain, shown_path, shown_value
from harness.variables import Filled, with_variables

_STEP = re.compile(r"\.([^.\[\]]+)|\[([^\[\]]+)\]")


class Document:
    """A recipe's data and where each field was written. `data` is as written; `filled`: what became of variables,
    also in its variants."""

    def __init__(self, data: Any, locations: dict[FieldPath, Location], start: Location) -> None:
        if not isinstance(data, dict):
            actual = "an empty file" if data is None else shown_value(data)
            raise RecipeError(f"{start.text}: expected a mapping of fields (name: ..., data: ...), got {actual}")
        self.data: dict[str, Any] = data
        self.filled: Filled = {}
        self._locations = locations
        self._start = start

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Document":
        """A recipe from Python data instead of a file. Raises RecipeError."""
        locations: dict[FieldPath, Location] = {}
        return cls(plain(fields, "recipe", (), locations), locations, Location(0, "recipe"))

    @classmethod
    def read(cls, path: Path) -> "Document":
        """Read a file. Raises RecipeError."""
        try:
            text = read_text(path, LARGEST_SETTINGS)
        except FileNotFoundError:
            siblings = sorted(p.name for pattern in ("*.yaml", "*.yml") for p in path.parent.glob(pattern))
            hint = nearest(path.name, siblings) if siblings else "its folder has no *.yaml file"
            raise RecipeError(f"{path}: no such file; {hint}") from None
        except (OSError, ValueError) as error:  # ValueError: an invalid file name, too large, or not UTF-8
            raise RecipeError(f"{path}: can't be read ({reason_of(error)}); expected a YAML file") from None

        def location(line: int) -> Location:
            return Location(line, f"{path}:{line}")

        locations: dict[FieldPath, Location] = {}
        return cls(parse(text, location, (), locations), locations, location(1))

    def location(self, path: FieldPath) -> Location:
        """Where a field was written; for a missing field, the location of the nearest enclosing field."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._locations:
                return self._locations[path[:length]]
        return self._start

    def existing(self, path: FieldPath) -> FieldPath:
        """The path without the parts that are not in the data, such as pydantic's union tags."""
        value: Any = self.data
        existing: list[str | int] = []
        for part in path:
            is_item = isinstance(value, list) and isinstance(part, int) and part < len(value)
            if is_item or (isinstance(value, dict) and part in value):
                value = value[part]
                existing.append(part)
        return tuple(existing)

    def value(self, path: FieldPath) -> Any:
        """The value at a path of `existing`, as written."""
        value: Any = self.data
        for part in path:
            value = value[part]
        return value

    def set(self, edit: str) -> None:
        """Apply `a.b=c`; the value is YAML. A list item is named by its index (`methods.0`, `methods[0]`) or by its id
        or name (`methods[dpo]`, `evaluation.benchmarks[mt_bench]`). Raises RecipeError."""
        field, equals, text = edit.partition("=")
        steps = _steps(field)
        if not equals or steps is None:
            raise RecipeError(f"--set {quoted(edit)[1:-1]}: expected FIELD=VALUE, like training.epochs=2")
        shown = "..." if is_secret(edit) else quoted(text, 40)[1:-1]
        here = Location(float("inf"), f"--set {quoted(field.strip())[1:-1]}={shown}")
        locations: dict[FieldPath, Location] = {}
        self._assign(steps, lambda path: parse(text, lambda _: here, path, locations), here, locations)

    def varied(self, edits: Sequence[tuple[str, Any, FieldPath]]) -> "Document":
        """A copy without the sweep and with edits from it: (field, value, the value's path in the document). Raises
        RecipeError for an impossible field."""
        variant = copy(self)
        variant.data = deepcopy({k: v for k, v in self.data.items() if k != "sweep"})
        variant._locations = dict(self._locations)
        for field, value, source in edits:
            here = self.location(source)
            steps = _steps(field)
            if steps is None:
                raise RecipeError(f"{here.text}: {quoted(field)} is not a field; expected one like training.epochs")
            depth = len(source)
            inner = {p[depth:]: location for p, location in self._locations.items() if p[:depth] == source}
            locations: dict[FieldPath, Location] = {}

            def copied_value(
                path: FieldPath, value: Any = value, inner: Any = inner, locations: Any = locations
            ) -> Any:
                locations.update({(*path, *rest): location for rest, location in inner.items()})
                return deepcopy(value)

            variant._assign(steps, copied_value, here, locations)
        return variant

    def _assign(
        self,
        steps: Sequence[str],
        value: Callable[[FieldPath], Any],
        here: Location,
        locations: dict[FieldPath, Location],
    ) -> None:
        """Set the field that the steps lead to. `value` computes its value from its path, and adds the locations of its
        parts to `locations`."""
        target: Any = self.data
        path: FieldPath = ()
        for step in steps[:-1]:
            key = _key(target, step, path, here)
            path = (*path, key)
            if isinstance(target, dict) and target.get(step) is None:
                target[step] = {}
                self._locations[path] = here
            target = target[key]
        path = (*path, _key(target, steps[-1], path, here))
        target[path[-1]] = value(path)
        others = {p: location for p, location in self._locations.items() if p[: len(path)] != path}
        self._locations = others | locations | {path: here}

    def fields(self) -> dict[str, Any]:
        """The data as fields take it: texts with `${NAME}` as `Variables`, and `${` for `$${`."""
        fields: dict[str, Any] = self._with_variables(self.data)
        return fields

    def _with_variables(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {k: self._with_variables(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self._with_variables(v) for v in value]
        return with_variables(value, self.filled) if isinstance(value, str) else value


def _steps(field: str) -> list[str] | None:
    """The parts of a field's name, such as `a.b[c]`; None if it is not a valid name."""
    steps = [a or b for a, b in _STEP.findall(f".{field.strip()}")]
    return steps if steps and not _STEP.sub("", f".{field.strip()}") else None


def _key(target: Any, step: str, path: FieldPath, here: Location) -> str | int:
    """What a step of an edit means in `target`: a field's name or an item's index. Raises RecipeError."""
    if isinstance(target, dict):
        return step
    if not isinstance(target, list):
        raise RecipeError(f"{here.text}: {shown_path(path)} is {shown_value(target, path)}, which has no fields to set")
    if re.fullmatch(r"[0-9]{1,6}", step) and int(step) < len(target):
        return int(step)
    labels = [[item.get("id"), item.get("name")] if isinstance(item, dict) else [] for item in target]
    matches = [i for i, names in enumerate(labels) if step in names]
    if len(matches) != 1:
        names = {label for item_labels in labels for label in item_labels if isinstance(label, str)}
        expected = f"a number below {len(target)}, or {nearest(step, names, 'one of')}"
        count = "several items" if matches else "no item"
        raise RecipeError(f"{here.text}: {shown_path(path)} has {count} '{step[:60]}'; expected {expected}")
    return matches[0]
