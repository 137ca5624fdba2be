"""Reads YAML as plain data with the line of every field, and formats fields and values for messages.

Only plain data is read: text, numbers, true/false, null, lists, and mappings with distinct text keys. Aliases are
expanded within limits. Values of fields that may hold a secret are never shown.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.composer import ComposerError

from harness.errors import RecipeError, quoted

_KINDS = {"null": "an empty value", "bool": "true or false", "int": "a whole number", "float": "a number"}
"""YAML's scalar types as messages name them."""

MAX_ALIASES = 100
MAX_NODES = 100_000
MAX_DEPTH = 64

FieldPath = tuple[str | int, ...]
"""The path of a value: `("methods", 1, "loss", "beta")`."""

# `max_new_tokens` and `tokenizer` hold no secret.
_SECRET = re.compile(r"key|secret|passw|credential|token(?!s|_id|iz)", re.IGNORECASE)


class Location(NamedTuple):
    """Where a field was written. `text`: as messages name it (`recipes/x.yaml:14`). `order`: the line number; edits
    come after all lines of the file."""

    order: float
    text: str


def is_secret(name: str) -> bool:
    """Whether a field of this name may hold a secret: a key, a token or a password."""
    return bool(_SECRET.search(name))


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


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with limits on aliases and depth. It reads 1e-4 as a number (YAML 1.2), not as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.aliases = 0
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        self.aliases += isinstance(event, yaml.AliasEvent)
        if self.aliases > MAX_ALIASES or self.depth >= MAX_DEPTH:
            problem = f"more than {MAX_ALIASES} aliases, or nested more than {MAX_DEPTH} deep"
            raise ComposerError(None, None, problem, event.start_mark)  # type: ignore[arg-type]  # libyaml's Mark
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


class _Reader:
    """Turns YAML nodes into plain data and records where each field was written."""

    def __init__(
        self, loader: _Loader, location: Callable[[int], Location], locations: dict[FieldPath, Location]
    ) -> None:
        self.loader, self.location, self.locations = loader, location, locations
        self.nodes = 0

    def _error(self, node: yaml.Node, path: FieldPath, message: str) -> RecipeError:
        field = f"{shown_path(path)}: " if path else ""
        return RecipeError(f"{self.location(node.start_mark.line + 1).text}: {field}{message}")

    def value(self, node: yaml.Node, path: FieldPath) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH:
            limits = f"at most {MAX_NODES} values, nested at most {MAX_DEPTH} deep, with all aliases written out"
            raise self._error(node, path[:4], f"too large: expected {limits}")
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            for i, item in enumerate(node.value):
                self.locations[(*path, i)] = self.location(item.start_mark.line + 1)
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise self._error(key_node, path, "merging with << is not supported; write the fields out")
            key = self._scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                written = key_node.value if isinstance(key_node, yaml.ScalarNode) else {}
                advice = "; put it in quotes to use it as a name" if isinstance(written, str) else ""
                raise self._error(key_node, path, f"expected a field name, got {shown_value(written)}{advice}")
            line = key_node.start_mark.line + 1
            if key in fields:
                raise self._error(key_node, (*path, key), f"given twice (first on line {lines[key]}); remove one")
            lines[key] = line
            self.locations[(*path, key)] = self.location(line)
            fields[key] = self.value(value_node, (*path, key))
        return fields

    def _scalar(self, node: yaml.Node, path: FieldPath) -> Any:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if not isinstance(node, yaml.ScalarNode) or kind not in {
            "str",
            "null",
            "bool",
            "int",
            "float",
            "timestamp",
            "value",
        }:
            raise self._error(node, path, f"expected plain YAML, got the tag {quoted(node.tag)}; remove it")
        if kind in {"str", "timestamp", "value"}:  # a date like 2024-05-01 can be a revision
            if not node.value.isascii() and not _is_text(node.value):
                raise self._error(node, path, "expected text, got half of a surrogate pair")
            return node.value
        try:
            value = self.loader.construct_object(node)
        except (ValueError, KeyError, yaml.YAMLError):
            raise self._error(node, path, f"expected {_KINDS[kind]}, got {shown_value(node.value, path)}") from None
        if isinstance(value, (int, float)) and not abs(value) < 2**63:
            raise self._error(node, path, f"expected a finite number, got {shown_value(node.value, path)}")
        return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse(text: str, location: Callable[[int], Location], path: FieldPath, locations: dict[FieldPath, Location]) -> Any:
    """The data of one YAML document. Adds the locations of its fields, under `path`, to `locations`. Raises
    RecipeError."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(filter(None, (error.context, error.problem)))
        raise RecipeError(
            f"{location(mark.line + 1 if mark else 1).text}: not valid YAML: {one_line(reason, 200)}"
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(
            f"{location(line).text}: not valid YAML: character {error.character:#x} is not allowed"
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{location(1).text}: not valid YAML: {one_line(str(error), 200)}") from None
    return None if node is None else _Reader(loader, location, locations).value(node, path)


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
        case str() if not _is_text(value):
            raise error_at("expected text, got half of a surrogate pair")
        case int() | float() if not abs(value) < 2**63:
            raise error_at(f"expected a finite number, got {shown_value(value, path)}")
        case None | str() | int() | float():
            return value
        case _:
            raise error_at(f"expected text, a number, a list or a mapping, got {type(value).__name__}")


def one_line(text: str, width: int = 1000) -> str:
    """A text on one line, without control characters, cut to `width` characters."""
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))
    return printable if len(printable) <= width else f"{printable[: width - 1]}…"
