"""The JSON Schema of a recipe (draft 2020-12), for editors: fields, types, bounds, and what each field is.

Components are those that are installed. What only the models check (fields that exclude each other, rows that must
exist) is not in it: `harness validate` says that.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from harness.components import FOLDERS, Kind, component_class, modules
from harness.errors import ComponentError
from harness.protocols import Component
from harness.recipe.recipe import Recipe
from harness.recipe.reference.texts import models_in, summary, text_of
from harness.recipe.reference.words import kind_of
from harness.recipe.trl_loss import TrlLoss

Shape = dict[str, Any]
_SHORT: Mapping[str, Shape] = {
    "Checkpoints": {"type": "array", "items": {"type": "number"}},
    "RecordedFile": {"type": "string"},
    "Pairs": {"type": "string"},
    "Rounds": {"type": "integer"},
    "ChatTemplate": {"type": "string"},
    "Task": {"type": "string"},
}
"""What a section may be instead of a mapping, for those that have a short form."""
_ALSO_TEXT = {("TrlLoss", "name"), ("TextTemplate", "stop"), ("Runtime", "report_to"), ("Resources", "memory")}
"""Fields of lists or numbers that may also be one text."""


def recipe_schema() -> Shape:
    """The schema, as JSON-able objects."""
    classes = _components()
    roots: list[type[BaseModel]] = [Recipe, TrlLoss, *(cls for found in classes.values() for cls in found.values())]
    references, whole = models_json_schema([(cls, "validation") for cls in dict.fromkeys(roots)])
    names = {cls: references[cls, "validation"]["$ref"].rpartition("/")[2] for cls in roots}
    defs: dict[str, Shape] = whole["$defs"]
    for cls, name in _all_models(roots, names, defs).items():
        _describe(cls, defs[name])
    for name, short in _SHORT.items():
        if name in defs:
            defs[name] = {"anyOf": [defs[name], short], "description": defs[name].get("description", "")}
    for kind, found in classes.items():
        defs[kind] = _choice(kind, {name: names[cls] for name, cls in found.items()})
    defs["loss or TRL's"] = {"anyOf": [{"$ref": "#/$defs/loss"}, {"$ref": f"#/$defs/{names[TrlLoss]}"}]}
    root = defs.pop(names[Recipe])
    root["properties"]["sweep"] = {
        "type": ["object", "null"],
        "description": root["properties"]["sweep"]["description"],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "preference-harness recipe",
        **root,
        "$defs": defs,
    }


def _components() -> dict[Kind, dict[str, type[Component]]]:
    """The classes of the components that can be loaded, by kind and name."""
    found: dict[Kind, dict[str, type[Component]]] = {}
    for kind in FOLDERS:
        found[kind] = {}
        for name in sorted(modules(kind)):
            try:
                found[kind][name] = component_class(kind, name)
            except ComponentError:  # `harness components` says what is wrong with that file
                continue
    return found


def _all_models(
    roots: list[type[BaseModel]], names: Mapping[type[BaseModel], str], defs: Mapping[str, Shape]
) -> dict[type[BaseModel], str]:
    """Every model within the roots, with its name in the schema."""
    found: dict[type[BaseModel], str] = {}
    waiting = list(roots)
    while waiting:
        cls = waiting.pop()
        qualified = f"{cls.__module__}.{cls.__qualname__}".replace(".", "__")
        name = names.get(cls) or (cls.__name__ if cls.__name__ in defs else qualified)
        if cls in found or name not in defs:
            continue
        found[cls] = name
        waiting += [inner for info in cls.model_fields.values() for inner in models_in(info.annotation)]
    return found


def _describe(cls: type[BaseModel], shape: Shape) -> None:
    """Give a model's fields their texts, and those of components the schema of their kind."""
    shape["description"] = summary(cls)
    shape.pop("title", None)
    for name, info in cls.model_fields.items():
        key = info.alias or name
        field = shape["properties"][key]
        field.pop("title", None)
        if kind := kind_of(info.annotation):
            _put(field, {"$ref": f"#/$defs/{kind if TrlLoss not in models_in(info.annotation) else _LOSS}"})
        if key == "ranked":
            field["anyOf"].append({"type": "string"})
        if (cls.__name__, name) in _ALSO_TEXT:
            shape["properties"][key] = field = {"anyOf": [field, {"type": "string"}]}
        field["description"] = text_of(cls, name) or ""


_LOSS = "loss or TRL's"


def _put(shape: Shape, reference: Shape) -> None:
    """Put a component's schema where the model's own schema admits anything."""
    if "anyOf" in shape:
        shape["anyOf"] = [part or reference for part in shape["anyOf"]]
    elif shape.get("type") == "array":
        shape["items"] = reference
    elif shape.get("type") == "object":
        shape["additionalProperties"] = reference
    else:
        shape.update(reference)


def _choice(kind: Kind, names: Mapping[str, str]) -> Shape:
    """A component of a kind: the fields are those of the one that is named."""
    chosen = [
        {
            "if": {"properties": {"name": {"const": name}}, "required": ["name"]},
            "then": {"$ref": f"#/$defs/{ref}"},
        }
        for name, ref in names.items()
    ]
    return {
        "type": "object",
        "description": f"A {kind}: harness components {kind} lists them.",
        "required": ["name"],
        "properties": {"name": {"enum": list(names)}},
        "allOf": chosen,
    }
