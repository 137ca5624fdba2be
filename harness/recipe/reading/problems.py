"""Words pydantic's validation errors for users: the field, what was expected, what was given, and the nearest name."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from harness.components import component_class, loss_class, modules
from harness.errors import closest, nearest
from harness.protocols import Component
from harness.recipe.reading.document import Document
from harness.recipe.reading.plain_yaml import FieldPath, shown_value


class Problem(NamedTuple):
    """A mistake: the field it is about, and the message."""

    path: FieldPath
    message: str


MISSING = "missing; this field must be given"
_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of fields",
    "mapping_type": "a mapping of fields",
    "model_type": "a mapping of fields",
    "model_attributes_type": "a mapping of fields",
    "path_type": "a path",
    "none_required": "nothing",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def problems_of(
    document: Document, errors: Iterable[Mapping[str, Any]], model: type[BaseModel], prefix: FieldPath = ()
) -> list[Problem]:
    """One problem per field, in pydantic's order. `errors`: those of a ValidationError of `model`, whose fields are at
    `prefix` in the document."""
    by_path: dict[FieldPath, list[Problem]] = {}
    for problem in _each(document, errors, model, prefix):
        by_path.setdefault(problem.path, []).append(problem)
    # A misspelt field is both unknown and missing: the first message is more helpful.
    for path, (first, *_) in list(by_path.items()):
        suggestion = re.match(r"unknown field; did you mean '(.+?)'", first.message)
        if suggestion and any(p.message == MISSING for p in by_path.get((*path[:-1], suggestion[1]), [])):
            del by_path[*path[:-1], suggestion[1]]
    return [_joined(document, problems) for problems in by_path.values()]


def _each(
    document: Document, errors: Iterable[Mapping[str, Any]], model: type[BaseModel], prefix: FieldPath
) -> Iterator[Problem]:
    for error in errors:
        kind, loc, context = error["type"], _aliased(model, tuple(error["loc"])), error.get("ctx", {})
        path = document.existing(prefix + loc)
        if kind == "component_fields":
            component = context.get("model") or component_class(context["kind"], context["component"])
            yield from _each(document, context["inner"], component, prefix + loc)
        elif kind == "extra_forbidden":
            name, fields = str(loc[-1]), _fields(model, loc[:-1])
            yield Problem(path, f"unknown field; {_elsewhere(name)}{nearest(name, fields, 'expected one of')}")
        elif kind == "missing" and path == prefix + loc:  # present but empty
            yield Problem(path, f"expected {_EXPECTED['mapping_type']}")
        elif kind == "missing":
            yield Problem((*path, loc[-1]), MISSING)
        elif kind in {"component_name", "component_type"}:
            yield Problem(document.existing((*path, "name")), context["message"])
        else:
            yield Problem(path, _message(error))


def _aliased(model: type[BaseModel], loc: FieldPath) -> FieldPath:
    """The path with its first part as recipes spell it: pydantic reports a missing field under its Python name."""
    field = model.model_fields.get(str(loc[0])) if loc else None
    return (field.alias, *loc[1:]) if field and field.alias else loc


def _message(error: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}"
    if kind in _BOUNDS:
        comparison, bound = _BOUNDS[kind]
        return f"expected {comparison} {context[bound]:g}"
    if kind == "too_short":
        return f"expected at least {context['min_length']} item{'s' * (context['min_length'] > 1)}"
    if kind == "literal_error":
        return f"expected {context['expected']}"
    if kind == "value_error":
        return str(context["error"])
    return re.sub(r"^Input should be (a valid )?", "expected ", str(error["msg"]))


def _joined(document: Document, problems: list[Problem]) -> Problem:
    """One message for a field: all values that it could have had, and the one that it has."""
    path, message = problems[0]
    if not message.startswith("expected ") or document.existing(path) != path:
        return Problem(path, message)
    alternatives = dict.fromkeys(p.message.removeprefix("expected ") for p in problems)
    value = document.value(path)
    message = f"expected {' or '.join(alternatives)}, got {shown_value(value, path)}"
    if isinstance(value, str):
        close = closest(value, re.findall(r"'([^']+)'", " ".join(alternatives)))
        return Problem(path, f"{message}; did you mean '{close}'?" if close else message)
    if "text" in alternatives and isinstance(value, (bool, int, float)):
        message += "; put it in quotes"
    elif isinstance(value, bool) and "true or false" not in alternatives:
        message += " (YAML reads yes and on as true, no and off as false)"
    return Problem(path, message)


def _elsewhere(name: str) -> str:
    """Where in a recipe a field belongs that was written in another section; empty if nowhere."""
    from harness.recipe.recipe import Recipe  # here, because only a mistake needs it

    places = list(dict.fromkeys(_places(Recipe, name, "")))
    places = [place for place in places if not any(place.startswith(f"{outer}.") for outer in places)]
    if not places and any(name in loss.model_fields for loss in map(loss_class, modules("loss"))):
        places = ["methods.loss"]
    return f"it belongs in {' or '.join(places)}; " if places else ""


def _places(model: type[BaseModel], name: str, section: str) -> Iterator[str]:
    """The sections, such as `data.prompts`, that have a field, the outermost first."""
    names = {field.alias or key: field.annotation for key, field in model.model_fields.items()}
    if name in names:
        yield section.removeprefix(".") or "the recipe's top level"
    for key, annotation in names.items():
        for inner in dict.fromkeys(_models(annotation)):
            if not issubclass(inner, Component):
                yield from _places(inner, name, f"{section}.{key}")


def _fields(model: type[BaseModel], loc: FieldPath) -> list[str]:
    """The fields that a model allows at a path, as recipes spell them."""
    for part in loc:
        field = next((f for name, f in model.model_fields.items() if part in (name, f.alias)), None)
        model = next(_models(field.annotation), model) if field else model
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
