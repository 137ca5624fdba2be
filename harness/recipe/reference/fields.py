"""The fields of a recipe's section, found by the path that an error or a recipe names them by."""

import re
from typing import NamedTuple

from pydantic import BaseModel

from harness.components import Kind
from harness.errors import RecipeError, nearest, quoted
from harness.protocols import Component
from harness.recipe.recipe import Recipe
from harness.recipe.reference import words
from harness.recipe.reference.texts import models_in, summary, text_of


class FieldText(NamedTuple):
    """A field as a reader of a recipe needs it. `default`: "required" where there is none. `bounds`: empty where there
    are none. `opens`: whether it has fields of its own."""

    name: str
    type: str
    default: str
    bounds: str
    text: str
    opens: bool


class Found(NamedTuple):
    """What a path leads to. `path`: as it is shown. `field`: None for the whole recipe. `text`: of the section.
    `kind`: the component that the field takes, whose fields depend on its name."""

    path: str
    field: FieldText | None
    text: str
    fields: list[FieldText]
    kind: Kind | None


def find(path: str) -> Found:
    """The field or section at a path such as `data.prompts.count` or `methods[0].loss`; the whole recipe at an empty
    one. Raises RecipeError."""
    parts = [part for part in re.split(r"[.\[\]]+", path) if part and not part.isdigit()]
    section: type[BaseModel] | None = Recipe
    shown, field, kind = "", None, None
    for part in parts:
        if section is None:
            hint = f"harness components {kind} lists what it may be" if kind else f"harness fields {shown} describes it"
            raise RecipeError(f"fields: {shown} has no fields of its own; {hint}")
        fields = {known.name: known for known in fields_of(section)}
        if part not in fields:
            where = f" in {shown}" if shown else ""
            raise RecipeError(f"fields: no field {quoted(part)}{where}; {nearest(part, fields)}")
        field = fields[part]
        by_alias = {info.alias or name: info for name, info in section.model_fields.items()}
        shown = f"{shown}.{part}" if shown else part
        kind = words.kind_of(by_alias[part].annotation)
        section = None if kind else _section(by_alias[part].annotation)
    text = summary(section) if section else ""
    return Found(shown, field, text, fields_of(section) if section else [], kind)


def fields_of(section: type[BaseModel]) -> list[FieldText]:
    """All fields of a section, in its order."""
    schema = section.model_json_schema()
    found = []
    for name, info in section.model_fields.items():
        key = info.alias or name
        shape = schema["properties"][key]
        inner = _section(info.annotation)
        default = "required" if key in schema.get("required", ()) else words.default(section, key, shape)
        if inner is not None and isinstance(default, BaseModel | dict):
            default = "its own"
        kind = words.kind_of(info.annotation)
        if kind:
            form = f"{'list of ' if shape.get('type') == 'array' else ''}{kind} {{name: ...}}"
        elif inner is not None and "$ref" in str(shape):
            form = "list of sections" if shape.get("type") == "array" else "section"
        else:
            form = "mapping" if shape.get("type") == "null" else words.type_of(section, key, shape, schema)
        found.append(
            FieldText(
                name=key,
                type=form,
                default=words.written(default),
                bounds=", ".join(words.bounds(shape)),
                text=text_of(section, name) or "",
                opens=inner is not None and kind is None,
            )
        )
    return found


def _section(annotation: object) -> type[BaseModel] | None:
    """The section that a field holds, or a list of; None for plain values and components."""
    return next((model for model in models_in(annotation) if not issubclass(model, Component)), None)
