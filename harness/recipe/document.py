"""A recipe's file: its data, the place of every field, edits (`--set a.b=c`), and variables (`${NAME}`)."""

import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

from harness.errors import RecipeError, nearest, quoted
from harness.recipe.plain_yaml import (
    FieldPath,
    Place,
    is_secret,
    one_line,
    parse,
    plain,
    shown_path,
    shown_value,
)

MAX_BYTES = 1_000_000

_VARIABLE = re.compile(r"(\$?)\$\{([^}]*)\}")
_STEP = re.compile(r"\.([^.\[\]]+)|\[([^\[\]]+)\]")


class Document:
    """A recipe's data and where each field of it stands. `data` is as written: `expanded` fills the variables in."""

    def __init__(self, data: Any, places: dict[FieldPath, Place], start: Place) -> None:
        if not isinstance(data, dict):
            what = "an empty file" if data is None else shown_value(data)
            raise RecipeError(f"{start.text}: expected a mapping of fields (name: ..., data: ...), got {what}")
        self.data: dict[str, Any] = data
        self._places = places
        self._start = start

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Document":
        """A recipe's data that no file holds, as YAML would give it. Raises RecipeError."""
        places: dict[FieldPath, Place] = {}
        return cls(plain(fields, "recipe", (), places), places, Place(0, "recipe"))

    @classmethod
    def read(cls, path: Path) -> "Document":
        """Read a file. Raises RecipeError."""
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            there = sorted(p.name for pattern in ("*.yaml", "*.yml") for p in path.parent.glob(pattern))
            hint = nearest(path.name, there) if there else "its folder has no *.yaml file"
            raise RecipeError(f"{path}: no such file; {hint}") from None
        except OSError as error:
            raise RecipeError(f"{path}: can't be read ({error.strerror or error}); expected a YAML file") from None
        except ValueError as error:  # a name that no file can have
            raise RecipeError(f"{path}: can't be read ({error}); expected a YAML file") from None
        if len(content) > MAX_BYTES:
            raise RecipeError(f"{path}: larger than {MAX_BYTES:,} bytes; expected a recipe")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise RecipeError(f"{path}:{line}: not valid YAML: expected UTF-8 text") from None

        def place(line: int) -> Place:
            return Place(line, f"{path}:{line}")

        places: dict[FieldPath, Place] = {}
        return cls(parse(text, place, (), places), places, place(1))

    def place(self, path: FieldPath) -> Place:
        """Where a field stands; that of the nearest field around it, where it isn't there itself."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._places:
                return self._places[path[:length]]
        return self._start

    def existing(self, path: FieldPath) -> FieldPath:
        """The parts of a path that lead somewhere, in order; the others (pydantic's tags of a union) are left out."""
        value: Any = self.data
        found: list[str | int] = []
        for part in path:
            listed = isinstance(value, list) and isinstance(part, int) and part < len(value)
            if listed or (isinstance(value, dict) and part in value):
                value = value[part]
                found.append(part)
        return tuple(found)

    def value(self, path: FieldPath) -> Any:
        """The value at a path of `existing`, as written."""
        value: Any = self.data
        for part in path:
            value = value[part]
        return value

    def set(self, edit: str) -> None:
        """Apply `a.b=c`; the value is YAML. An item of a list is named by its place (`methods.0`, `methods[0]`) or by
        its id or name (`methods[dpo]`, `evaluation.benchmarks[mt_bench]`). Raises RecipeError."""
        field, equals, text = edit.partition("=")
        steps = _steps(field)
        if not equals or steps is None:
            raise RecipeError(f"--set {quoted(edit)[1:-1]}: expected FIELD=VALUE, like training.epochs=2")
        shown = "..." if is_secret(edit) else quoted(text, 40)[1:-1]
        here = Place(float("inf"), f"--set {quoted(field.strip())[1:-1]}={shown}")
        places: dict[FieldPath, Place] = {}
        self._assign(steps, lambda path: parse(text, lambda _: here, path, places), here, places)

    def varied(self, edits: Sequence[tuple[str, Any, FieldPath]]) -> "Document":
        """A copy without its sweep, and with edits from it: (field, value, where in the document the value stands).
        Raises RecipeError for a field that can't be."""
        made = copy(self)
        made.data = deepcopy({k: v for k, v in self.data.items() if k != "sweep"})
        made._places = dict(self._places)
        for field, value, source in edits:
            here = self.place(source)
            steps = _steps(field)
            if steps is None:
                raise RecipeError(f"{here.text}: {quoted(field)} is no field; expected one like training.epochs")
            depth = len(source)
            moved = {p[depth:]: place for p, place in self._places.items() if p[:depth] == source}
            places: dict[FieldPath, Place] = {}

            def assigned(path: FieldPath, value: Any = value, moved: Any = moved, places: Any = places) -> Any:
                places.update({(*path, *inner): place for inner, place in moved.items()})
                return deepcopy(value)

            made._assign(steps, assigned, here, places)
        return made

    def _assign(
        self,
        steps: Sequence[str],
        value: Callable[[FieldPath], Any],
        here: Place,
        places: dict[FieldPath, Place],
    ) -> None:
        """Put a value, made for the path that the steps lead to, in its place; making it fills `places` in."""
        target: Any = self.data
        path: FieldPath = ()
        for step in steps[:-1]:
            key = _key(target, step, path, here)
            path = (*path, key)
            if isinstance(target, dict) and target.get(step) is None:
                target[step] = {}
                self._places[path] = here
            target = target[key]
        path = (*path, _key(target, steps[-1], path, here))
        target[path[-1]] = value(path)
        self._places = {p: place for p, place in self._places.items() if p[: len(path)] != path} | places | {path: here}

    def expanded(self, variables: Mapping[str, str]) -> dict[str, Any]:
        """The data with `${NAME}` replaced in every text; `$${` stands for `${`. Raises RecipeError for a variable
        that is not set."""
        found: dict[str, Any] = self._expand(self.data, (), variables)
        return found

    def _expand(self, value: Any, path: FieldPath, variables: Mapping[str, str]) -> Any:
        if isinstance(value, dict):
            return {k: self._expand(v, (*path, k), variables) for k, v in value.items()}
        if isinstance(value, list):
            return [self._expand(v, (*path, i), variables) for i, v in enumerate(value)]
        if not isinstance(value, str):
            return value

        def replace(match: re.Match[str]) -> str:
            escaped, name = match.groups()
            if escaped:
                return match.group()[1:]
            if name not in variables:
                where = f"{self.place(path).text}: {shown_path(path)}"
                advice = f"set it, or write $${{{name[:60]}}} for the text itself"
                raise RecipeError(one_line(f"{where}: environment variable {quoted(name)} is not set; {advice}"))
            return variables[name]

        return _VARIABLE.sub(replace, value)


def _steps(field: str) -> list[str] | None:
    """The parts of a field's name: `a.b[c]`; None where it is no name."""
    steps = [a or b for a, b in _STEP.findall(f".{field.strip()}")]
    return steps if steps and not _STEP.sub("", f".{field.strip()}") else None


def _key(target: Any, step: str, path: FieldPath, here: Place) -> str | int:
    """What `step` of an edit means in `target`: a field's name, or an item's place."""
    if isinstance(target, dict):
        return step
    if not isinstance(target, list):
        raise RecipeError(f"{here.text}: {shown_path(path)} is {shown_value(target, path)}, which has no fields to set")
    if re.fullmatch(r"[0-9]{1,6}", step) and int(step) < len(target):
        return int(step)
    named = [[item.get("id"), item.get("name")] if isinstance(item, dict) else [] for item in target]
    matches = [i for i, names in enumerate(named) if step in names]
    if len(matches) != 1:
        names = {n for found in named for n in found if isinstance(n, str)}
        there = f"a number below {len(target)}, or {nearest(step, names, 'one of')}"
        what = "several items" if matches else "no item"
        raise RecipeError(f"{here.text}: {shown_path(path)} has {what} '{step[:60]}'; expected {there}")
    return matches[0]
