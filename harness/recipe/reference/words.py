"""A field's type, default and bounds in a recipe's words, from its JSON schema."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

from harness.benchmark import Benchmark
from harness.components import Kind
from harness.protocols import Generator, Judge, Loss, RewardModel, Seed

_KINDS: tuple[tuple[type[BaseModel], Kind], ...] = (
    (Seed, "seed"),
    (Generator, "generator"),
    (RewardModel, "reward"),
    (Loss, "loss"),
    (Judge, "judge"),
    (Benchmark, "benchmark"),
)
_LIMITS = {"minimum": ">= ", "exclusiveMinimum": "> ", "maximum": "<= ", "exclusiveMaximum": "< "}


def default(cls: type[BaseModel], field: str, shape: Mapping[str, Any]) -> Any:
    """The default of a field that is not required."""
    if "default" in shape:
        return shape["default"]
    by_alias = {info.alias or key: info for key, info in cls.model_fields.items()}
    return by_alias[field].get_default(call_default_factory=True)


def written(value: Any) -> str:
    """A default as a recipe would have it."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case list() | tuple():
            return f"[{', '.join(map(written, value))}]"
        case dict():
            return f"{{{', '.join(f'{key}: {written(item)}' for key, item in value.items())}}}"
        case _:
            return str(value)


def type_of(cls: type[BaseModel], field: str, shape: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A field's type in a recipe's words, from its JSON schema."""
    if "anyOf" in shape:
        return " | ".join(dict.fromkeys(type_of(cls, field, part, schema) for part in shape["anyOf"]))
    if "enum" in shape:
        return " | ".join(map(written, shape["enum"]))
    if "const" in shape:
        return written(shape["const"])
    if "$ref" in shape:
        inner = schema["$defs"][shape["$ref"].rpartition("/")[2]]
        return f"{{{', '.join(inner.get('properties', {}))}}}"
    match shape.get("type"):
        case "array":
            return f"list of {type_of(cls, field, shape.get('items', {}), schema)}"
        case "object":
            inside = shape.get("additionalProperties")
            return f"mapping to {type_of(cls, field, inside, schema) if isinstance(inside, dict) else 'any'}"
        case "string" if shape.get("format") == "path":
            return "path"
        case None:
            return _component_type(cls, field)
        case known:
            return str(known)


def _component_type(cls: type[BaseModel], field: str) -> str:
    kind = kind_of(cls.model_fields[field].annotation)
    return "any" if kind is None else f"{kind} {{name: ...}}"


def kind_of(annotation: Any) -> Kind | None:
    """The kind of component that a field takes: JSON Schema does not know of those."""
    if kind := next((kind for base, kind in _KINDS if annotation is base), None):
        return kind
    return next((kind for part in get_args(annotation) if (kind := kind_of(part))), None)


def bounds(shape: Mapping[str, Any]) -> list[str]:
    """The bounds of a field's values, as a recipe's reader would write them."""
    parts = [text for part in shape.get("anyOf", ()) for text in bounds(part)]
    limits = [(sign, shape[key]) for key, sign in _LIMITS.items() if key in shape]
    parts += [f"{sign}{limit}" if isinstance(limit, int) else f"{sign}{limit:g}" for sign, limit in limits]
    if shape.get("minLength"):
        parts.append("not empty")
    if shape.get("minItems"):
        parts.append(f"{shape['minItems']} or more")
    return list(dict.fromkeys(parts))
