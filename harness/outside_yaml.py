"""The one reader of YAML that other people wrote: recipes, templates, price tables, hosts, annotators, dataset cards.

Only plain data is read: text, numbers, true/false, null, lists, and mappings with distinct keys. Aliases are expanded
within limits, since a few lines of them can stand for gigabytes. Numbers that YAML reads otherwise than people do (010
is 8, 1:30 is 90) are refused.
"""

import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml.composer import ComposerError

MAX_ALIASES = 100
MAX_NODES = 100_000
MAX_DEPTH = 64

FieldPath = tuple[str | int, ...]
"""The path of a value: `("methods", 1, "loss", "beta")`."""

_KINDS = {"null": "an empty value", "bool": "true or false", "int": "a whole number", "float": "a number"}
"""YAML's scalar types as messages name them."""
_TEXT = frozenset({"str", "timestamp", "value"})  # a date like 2024-05-01 can be a revision
_MISREAD = re.compile(r"[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")
"""Octal numbers and numbers to the base of 60, which YAML 1.2 no longer has."""
_QUOTE = "put it in quotes if it is text"


class YamlError(ValueError):
    """YAML that is not read. `line`: counted from 1. `path`: the field, empty for the whole. `reason`: what is wrong,
    with `{}` where `value`, the text or kind of data that was written, belongs."""

    def __init__(self, line: int, path: FieldPath, reason: str, value: Any = None) -> None:
        self.line, self.path, self.reason, self.value = line, path, reason, value
        shown = value if isinstance(value, str) else type(value).__name__
        field = f"{'.'.join(map(str, path))[:120]}: " if path else ""
        super().__init__(f"line {line}: {field}{reason.replace('{}', repr(shown[:60]))}")


def parse_yaml(
    text: str, *, notice: Callable[[FieldPath, int], None] = lambda path, line: None, any_keys: bool = False
) -> Any:
    """The data of one YAML document; None for an empty one. `notice`: called with every field and its line.
    `any_keys`: keys may also be numbers, or true and false. Raises YamlError."""
    try:
        loader = _Loader(text.removeprefix("\ufeff"))
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(" ".join(filter(None, (error.context, error.problem))).split())
        raise YamlError(mark.line + 1 if mark else 1, (), f"not valid YAML: {reason[:200]}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(line, (), f"not valid YAML: character {error.character:#x} is not allowed") from None
    except (yaml.YAMLError, ValueError) as error:
        raise YamlError(1, (), f"not valid YAML: {' '.join(str(error).split())[:200]}") from None
    return None if node is None else _Reader(loader, notice, any_keys).value(node, ())


def yaml_text(value: Any) -> str:
    """Plain data as YAML, with its keys in order."""
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text


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
    """Turns YAML nodes into plain data."""

    def __init__(self, loader: _Loader, notice: Callable[[FieldPath, int], None], any_keys: bool) -> None:
        self.loader, self.notice, self.any_keys = loader, notice, any_keys
        self.nodes = 0

    def value(self, node: yaml.Node, path: FieldPath) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH:
            limits = f"at most {MAX_NODES} values, nested at most {MAX_DEPTH} deep, with all aliases written out"
            raise _error(node, path[:4], f"too large: expected {limits}")
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            for i, item in enumerate(node.value):
                self.notice((*path, i), item.start_mark.line + 1)
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[Any, Any]:
        fields: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise _error(key_node, path, "merging with << is not supported; write the fields out")
            key = self._scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if not (isinstance(key, str) or (self.any_keys and isinstance(key, int | float))):
                written = key_node.value if isinstance(key_node, yaml.ScalarNode) else {}
                advice = "; put it in quotes to use it as a name" if isinstance(written, str) else ""
                raise _error(key_node, path, f"expected a field name, got {{}}{advice}", written)
            line, field = key_node.start_mark.line + 1, (*path, str(key))
            if key in fields:
                raise _error(key_node, field, f"given twice (first on line {lines[key]}); remove one")
            lines[key] = line
            self.notice(field, line)
            fields[key] = self.value(value_node, field)
        return fields

    def _scalar(self, node: yaml.Node, path: FieldPath) -> Any:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if not isinstance(node, yaml.ScalarNode) or kind not in {*_KINDS, *_TEXT}:
            raise _error(node, path, "expected plain YAML, got the tag {}; remove it", node.tag)
        if kind in _TEXT:
            if not node.value.isascii() and not is_text(node.value):
                raise _error(node, path, "expected text, got half of a surrogate pair")
            return node.value
        try:
            value = self.loader.construct_object(node)
        except (ValueError, KeyError, yaml.YAMLError):
            raise _error(node, path, f"expected {_KINDS[kind]}, got {{}}", node.value) from None
        if isinstance(value, (int, float)) and not abs(value) < 2**63:
            raise _error(node, path, f"expected a finite number, got {{}}; {_QUOTE}", node.value)
        if _MISREAD.fullmatch(node.value):
            advice = f"write the number that is meant, or {_QUOTE}"
            raise _error(node, path, f"YAML reads {{}} as {value:g}; {advice}", node.value)
        return value


def _error(node: yaml.Node, path: FieldPath, reason: str, value: Any = None) -> YamlError:
    return YamlError(node.start_mark.line + 1, path, reason, value)


def is_text(value: str) -> bool:
    """Whether a text can be written as UTF-8: it holds no half of a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
