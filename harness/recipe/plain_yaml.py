"""YAML as plain data that knows the line of every field, and how a message shows fields and values.

Only plain data is read: text, numbers, true/false, null, lists, and mappings whose keys are text and differ. Aliases
are expanded within limits. Values whose field may hold a secret are never shown.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.composer import ComposerError

from harness.errors import RecipeError, quoted

MAX_ALIASES = 100
MAX_NODES = 100_000
MAX_DEPTH = 64

FieldPath = tuple[str | int, ...]
"""Where a value stands: `("methods", 1, "loss", "beta")`."""

# `max_new_tokens` and `tokenizer` hold no secret.
_SECRET = re.compile(r"key|secret|passw|credential|token(?!s|_id|iz)", re.IGNORECASE)


class Place(NamedTuple):
    """A place that a message names, and where it stands among others: by line, edits after the file."""

    order: float
    text: str


def is_secret(name: str) -> bool:
    """Whether a field of this name may hold what must not be shown: a key, a token, a secret, a password."""
    return bool(_SECRET.search(name))


def shown_path(path: FieldPath) -> str:
    """`methods.1.loss.beta`"""
    return ".".join(p if isinstance(p, str) and re.fullmatch(r"[\w-]{1,60}", p) else _quoted_key(p) for p in path)


def _quoted_key(part: str | int) -> str:
    return str(part) if isinstance(part, int) else quoted(part)


def shown_value(value: Any, path: FieldPath = ()) -> str:
    """A value as a message may show it: short, on one line, and never a secret or the inside of a list or mapping."""
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
    """PyYAML's safe loader, with limits on aliases and depth, and with 1e-4 as a number (YAML 1.2) and not a text."""

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
    """Turns YAML nodes into plain data, noting each field's place."""

    def __init__(self, loader: _Loader, place: Callable[[int], Place], places: dict[FieldPath, Place]) -> None:
        self.loader, self.place, self.places = loader, place, places
        self.nodes = 0

    def _wrong(self, node: yaml.Node, path: FieldPath, message: str) -> RecipeError:
        field = f"{shown_path(path)}: " if path else ""
        return RecipeError(f"{self.place(node.start_mark.line + 1).text}: {field}{message}")

    def value(self, node: yaml.Node, path: FieldPath) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH:
            limits = f"at most {MAX_NODES} values, nested at most {MAX_DEPTH} deep, with all aliases written out"
            raise self._wrong(node, path[:4], f"too large: expected {limits}")
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            for i, item in enumerate(node.value):
                self.places[(*path, i)] = self.place(item.start_mark.line + 1)
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise self._wrong(key_node, path, "merging with << is not supported; write the fields out")
            key = self._scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                was = key_node.value if isinstance(key_node, yaml.ScalarNode) else {}
                advice = "; put it in quotes if it is meant" if isinstance(was, str) else ""
                raise self._wrong(key_node, path, f"expected a field's name, got {shown_value(was)}{advice}")
            line = key_node.start_mark.line + 1
            if key in found:
                raise self._wrong(key_node, (*path, key), f"given twice (first in line {lines[key]}); remove one")
            lines[key] = line
            self.places[(*path, key)] = self.place(line)
            found[key] = self.value(value_node, (*path, key))
        return found

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
            raise self._wrong(node, path, f"expected plain YAML, got the tag {quoted(node.tag)}; remove it")
        if kind in {"str", "timestamp", "value"}:  # 2024-05-01 is a fine revision
            if not node.value.isascii() and not _is_text(node.value):
                raise self._wrong(node, path, "expected text, got half of a surrogate pair")
            return node.value
        try:
            value = self.loader.construct_object(node)
        except (ValueError, KeyError, yaml.YAMLError):
            raise self._wrong(node, path, f"expected a {kind}, got {shown_value(node.value, path)}") from None
        if isinstance(value, (int, float)) and not abs(value) < 2**63:
            raise self._wrong(node, path, f"expected a finite number, got {shown_value(node.value, path)}")
        return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse(text: str, place: Callable[[int], Place], path: FieldPath, places: dict[FieldPath, Place]) -> Any:
    """The data of one YAML document; notes places under `path`. Raises RecipeError."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = " ".join(filter(None, (error.context, error.problem)))
        raise RecipeError(f"{place(mark.line + 1 if mark else 1).text}: not valid YAML: {one_line(why, 200)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(
            f"{place(line).text}: not valid YAML: character {error.character:#x} is not allowed"
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{place(1).text}: not valid YAML: {one_line(str(error), 200)}") from None
    return None if node is None else _Reader(loader, place, places).value(node, path)


def plain(value: Any, name: str, path: FieldPath, places: dict[FieldPath, Place]) -> Any:
    """A copy of data that Python holds, as YAML would give it: tuples become lists, and paths text. Notes every field's
    place: all are called `name`, in the order in which they stand. Raises RecipeError for anything but plain data."""

    def wrong(message: str, path: FieldPath = path) -> RecipeError:
        field = f"{shown_path(path)}: " if path else ""
        return RecipeError(f"{name}: {field}{message}")

    places[path] = Place(len(places), name)
    match value:
        case Mapping() | list() | tuple() if len(path) > MAX_DEPTH:
            raise wrong(f"nested more than {MAX_DEPTH} deep", path[:4])
        case Mapping():
            if strange := [key for key in value if not isinstance(key, str)]:
                raise wrong(f"expected a field's name, got {shown_value(strange[0])}")
            return {key: plain(part, name, (*path, key), places) for key, part in value.items()}
        case list() | tuple():
            return [plain(part, name, (*path, i), places) for i, part in enumerate(value)]
        case Path():
            return str(value)
        case str() if not _is_text(value):
            raise wrong("expected text, got half of a surrogate pair")
        case int() | float() if not abs(value) < 2**63:
            raise wrong(f"expected a finite number, got {shown_value(value, path)}")
        case None | str() | int() | float():
            return value
        case _:
            raise wrong(f"expected text, a number, a list or a mapping, got {type(value).__name__}")


def one_line(text: str, width: int = 1000) -> str:
    """A text without line breaks and other characters that a terminal would obey, not longer than `width`."""
    plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))
    return plain if len(plain) <= width else f"{plain[: width - 1]}…"
