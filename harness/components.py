"""Components: `{name: foo, ...}` in a recipe is the class in `harness/<folder>/foo.py`, made with the other fields.

A component file holds one class derived from `Component`. Packages add theirs through an entry point in the group
`harness.<folder>` (`foo = "package.module"`). Importing a component file must be cheap: what is heavy (torch,
transformers, ...) is imported inside the methods that need it, so that a recipe is checked in a moment.
"""

import hashlib
import importlib
import inspect
import os
import pkgutil
from collections.abc import Mapping
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

from harness.errors import nearest, quoted
from harness.memo import once
from harness.protocols import Benchmark, Generator, Judge, RewardModel, Seed

Kind = Literal["seed", "generator", "reward", "loss", "judge", "benchmark"]
FOLDERS: dict[Kind, str] = {
    "seed": "seeds",
    "generator": "generators",
    "reward": "rewards",
    "loss": "losses",
    "judge": "judges",
    "benchmark": "benchmarks",
}


class Component(BaseModel):
    """Base of all components. Fields are the recipe's; `unkeyed` names those that can't change a result."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)
    unkeyed: ClassVar[frozenset[str]] = frozenset()

    name: str

    def identity(self) -> dict[str, Any]:
        """What the results depend on, as JSON-able data: it is hashed into stage keys and shown in provenance. A
        component that reads a file or a model overrides this to name the content rather than the path."""
        return self.model_dump(mode="json", exclude=set(self.unkeyed))

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process as its fields: clients, locks, loaded models and what was read are its own there."""
        fields = {name: self.__dict__[name] for name in type(self).model_fields}
        return _sent, (type(self), fields, self.model_fields_set)

    def check(self) -> None:
        """A cheap look before anything heavy loads: files exist, keys are set. Raises a HarnessError."""


def _sent(made: type[Component], fields: dict[str, Any], given: set[str]) -> Component:
    return made.model_construct(_fields_set=given, **fields)


def identity(component: object) -> dict[str, Any]:
    """A component's part of a stage key."""
    known = cast(Component, component)
    # The object is kept beside what is known of it: another one may not get its number.
    return once(("identity", id(known)), lambda: (known, known.identity()))[1]


def question_identity(benchmark: Benchmark) -> dict[str, Any]:
    """A benchmark's questions' part of a stage key."""
    return once(("questions", id(benchmark)), lambda: (benchmark, benchmark.question_identity()))[1]


def source_hash(component: object) -> str:
    """SHA-256 of the file that a component's class stands in, and of those of its bases below Component. Part of a
    loss's stage key: losses are small files that are written, tried and mended, and a mended one must not find the old
    one's checkpoint."""
    above = {object, *Component.__mro__}
    classes = [c for c in type(component).__mro__ if c not in above]
    sources = {c.__module__: inspect.getsource(inspect.getmodule(c) or c) for c in classes}
    return hashlib.sha256("\0".join(sources[name] for name in sorted(sources)).encode()).hexdigest()


def _absolute(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        raise ValueError("expected the path of a file or folder")
    base = (info.context or {}).get("base", Path.cwd())
    # Unlike Path.expanduser, this leaves an unknown user's `~name` as it is.
    return Path(os.path.normpath(Path(base) / os.path.expanduser(value)))


def _model_reference(value: Any, info: ValidationInfo) -> Any:
    """A local folder becomes absolute; a built-in name or hub id stays as it is."""
    if not isinstance(value, str):
        return value
    local = _absolute(value, info)
    looks_local = value.startswith((".", "/", "~")) or os.path.isdir(local)
    return str(local) if looks_local else value


RecipePath = Annotated[Path, BeforeValidator(_absolute)]
"""A path in a recipe: relative to the recipe's folder (the validation context's `base`), `~` expanded."""

ModelReference = Annotated[str, BeforeValidator(_model_reference)]
"""A model in a recipe: a built-in name, a hub id, or a local folder (made absolute like a RecipePath)."""


@cache
def _own(kind: Kind) -> dict[str, str]:
    folder = FOLDERS[kind]
    package = importlib.import_module(f"harness.{folder}")
    return {m.name: f"harness.{folder}.{m.name}" for m in pkgutil.iter_modules(package.__path__)}


@cache
def modules(kind: Kind) -> dict[str, str]:
    """Component name -> module path, for every component of a kind that is installed."""
    theirs = {entry.name: entry.value for entry in entry_points(group=f"harness.{FOLDERS[kind]}")}
    return theirs | _own(kind)


def component_class(kind: Kind, name: str) -> type[Component]:
    """The class of a component. Raises KeyError for an unknown name."""
    # Entry points are looked at only where need be: that reads the metadata of every installed package.
    module: ModuleType = importlib.import_module(_own(kind).get(name) or modules(kind)[name])
    classes = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Component) and c.__module__ == module.__name__
    ]
    public = [c for c in classes if not c.__name__.startswith("_")]
    if len(public) != 1:
        raise TypeError(f"{module.__name__} must define exactly one public Component, has {len(public)}")
    return public[0]


def build(kind: Kind, fields: Mapping[str, Any], context: Mapping[str, Any] | None = None) -> Component:
    """Make a component from a recipe's mapping. Raises pydantic's ValidationError, or PydanticCustomError of type
    `component_name` when the name is missing or unknown."""
    name = fields.get("name")
    if not isinstance(name, str):
        expected = f"expected {{name: ...}}, the name one of {', '.join(sorted(modules(kind)))}"
        raise PydanticCustomError("component_name", "{message}", {"message": f"no {kind} named: {expected}"})
    if name not in _own(kind) and name not in modules(kind):
        message = f"unknown {kind} {quoted(name)}; {nearest(name, modules(kind))}"
        raise PydanticCustomError("component_name", "{message}", {"message": message})
    return component_class(kind, name).model_validate(dict(fields), context=dict(context or {}))


def _parse(kind: Kind, value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Component):
        return value
    # The cells of a sweep have most components in common: one object then stands in all of them.
    made: dict[str, Component] = (info.context or {}).get("made", {})
    written = f"{kind} {value!r}"
    if written in made:
        return made[written]
    made[written] = _made(kind, value, info)
    return made[written]


def _made(kind: Kind, value: Any, info: ValidationInfo) -> Component:
    if not isinstance(value, Mapping):
        message = f"expected {{name: ...}}, the name one of {', '.join(sorted(modules(kind)))}"
        raise PydanticCustomError("component_type", "{message}", {"message": message})
    try:
        return build(kind, value, info.context)
    except ValidationError as error:
        # pydantic does not splice an inner model's errors into the outer list: hand them over for the recipe to do so.
        fields = sorted(component_class(kind, value["name"]).model_fields)
        context = {"kind": kind, "component": value["name"], "fields": fields, "inner": error.errors()}
        raise PydanticCustomError("component_fields", "{kind} '{component}' has wrong fields", context) from None


SeedField = Annotated[Seed, PlainValidator(partial(_parse, "seed"))]
GeneratorField = Annotated[Generator, PlainValidator(partial(_parse, "generator"))]
RewardField = Annotated[RewardModel, PlainValidator(partial(_parse, "reward"))]
parse_loss = partial(_parse, "loss")
"""The validator of a loss's field, for one that may also hold a loss that is no component (`harness.trl_loss`)."""
JudgeField = Annotated[Judge, PlainValidator(partial(_parse, "judge"))]
BenchmarkField = Annotated[Benchmark, PlainValidator(partial(_parse, "benchmark"))]
