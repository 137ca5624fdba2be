"""Reads YAML (`harness.outside_yaml`) with the location of every field, and formats fields and values for messages.
Values of fields that may hold a secret are never shown.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import RecipeError, quoted
from harness.outside_yaml import MAX_DEPTH, FieldPath, YamlError, is_text, parse_yaml
from harness.printable import is_secret, printable

__all__ = ["FieldPath"]

LONGEST_MESSAGE = 1000
"""Characters of what is said about a field."""


class Location(NamedTuple):
    """Where a field was written. `text`: as messages name it (`recipes/x.yaml:14`). `order`: the line number; edits
    come after all lines of the file."""

    order: float
    text: str


def shown_path(path: FieldPath) -> str:
    """A field as messages name it: `methods.1.loss.beta`. Unusual keys are quoted."""
    return ".".join(p if isinstance(p, str) and re.fullmatch(r"[\w-]{1,60}", p) else _quoted_key(p) for p in path)


def _quoted_key(part: str | int) -> str:
    return str(part) if isinstance(part, int) else quoted(part)


def shown_value(value: Any, path: FieldPath = ()) -> str:
    """A value as messages show it: short and on one line. The contents of lists, mappings and secrets are not shown."""
    if isinstance(value, (Mapping, list, tuple)):
        kind = "mapping" if isinstance(value, Mapping) else "list"
        return f"a {kind}" if value else f"an empty {kind}"
    if value is None:
        return "nothing"
    if any(isinstance(p, str) and is_secret(p) for p in path):
        return "a value that is not shown here"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else repr(value)
    return quoted(text) if isinstance(value, str) else text[:60]


def parse(text: str, location: Callable[[int], Location], path: FieldPath, locations: dict[FieldPath, Location]) -> Any:
    """The data of one YAML document. Adds the locations of its fields, under `path`, to `locations`. Raises
    RecipeError."""

    def notice(field: FieldPath, line: int) -> None:
        locations[(*path, *field)] = location(line)

    try:
        return parse_yaml(text, notice=notice)
    except YamlError as error:
        at = (*path, *error.path)
        field = f"{shown_path(at)}: " if error.path or (path and error.value is not None) else ""
        reason = error.reason.replace("{}", shown_value(error.value, at))
        raise RecipeError(f"{location(error.line).text}: {field}{printable(reason, LONGEST_MESSAGE)}") from None


def plain(value: Any, name: str, path: FieldPath, locations: dict[FieldPath, Location]) -> Any:
    """A copy of Python data as YAML would give it: tuples become lists, and paths become text. Adds the location of
    every field, in order and all called `name`, to `locations`. Raises RecipeError for anything but plain data."""

    def error_at(message: str, path: FieldPath = path) -> RecipeError:
        field = f"{shown_path(path)}: " if path else ""
        return RecipeError(f"{name}: {field}{message}")

    locations[path] = Location(len(locations), name)
    match value:
        case Mapping() | list() | tuple() if len(path) > MAX_DEPTH:
            raise error_at(f"nested more than {MAX_DEPTH} deep", path[:4])
        case Mapping():
            if other_keys := [key for key in value if not isinstance(key, str)]:
                raise error_at(f"expected a field name, got {shown_value(other_keys[0])}")
            return {key: plain(part, name, (*path, key), locations) for key, part in value.items()}
        case list() | tuple():
            return [plain(part, name, (*path, i), locations) for i, part in enumerate(value)]
        case Path():
            return str(value)
        case str() if not is_text(value):
            raise error_at("expected text, got half of a surrogate pair")
        case int() | float() if not abs(value) < 2**63:
            raise error_at(f"expected a finite number, got {shown_value(value, path)}")
        case None | str() | int() | float():
            return value
        case _:
            raise error_at(f"expected text, a number, a list or a mapping, got {type(value).__name__}")
