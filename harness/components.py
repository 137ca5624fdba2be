"""Components: `{name: foo, ...}` in a recipe is an object of the class in `harness/<folder>/foo.py`, built from the
other fields.

A component file holds one class derived from its kind's base class (`harness.protocols`, `harness.benchmark`); a folder
`harness/<folder>/foo/` holds it in `<kind>.py`. Other packages add components through an entry point in the group
`harness.<folder>` (`foo = "package.module"`). Importing a component file must be cheap: heavy libraries (torch,
transformers, ...) are imported inside the methods that need them, so that recipes are checked quickly.
"""

import ast
import hashlib
import importlib
import os
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import entry_points
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, PlainValidator, SerializeAsAny, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

from harness.benchmark import Benchmark
from harness.errors import ComponentError, missing_package, nearest, quoted
from harness.memo import once
from harness.protocols import Component, Generator, Judge, Loss, Ready, RewardModel, Seed
from harness.types import Ask, Messages
from harness.variables import Variables

Kind = Literal["seed", "generator", "reward", "loss", "judge", "benchmark"]
FOLDERS: dict[Kind, str] = {
    "seed": "seeds",
    "generator": "generators",
    "reward": "rewards",
    "loss": "losses",
    "judge": "judges",
    "benchmark": "benchmarks",
}
BASES: dict[Kind, type[Component]] = {
    "seed": Seed,
    "generator": Generator,
    "reward": RewardModel,
    "loss": Loss,
    "judge": Judge,
    "benchmark": Benchmark,
}


def identity(component: Component) -> dict[str, Any]:
    """A component's part of a stage key."""
    # The object is kept with its identity, so that its id() can't be reused while the memo lasts.
    return once(("identity", id(component)), lambda: (component, component.identity()))[1]


def question_identity(benchmark: Benchmark) -> dict[str, Any]:
    """The part of a stage key that stands for a benchmark's questions."""
    return once(("questions", id(benchmark)), lambda: (benchmark, benchmark.question_identity()))[1]


def source_hash(component: Component) -> str:
    """SHA-256 of a component's code: the files of its class and of its bases below the kind's base class, and the files
    that these import from their own folders, without imports, docstrings, comments and layout.

    Part of a loss's stage key: losses are small files that are edited often, and an edited loss must not reuse the
    checkpoint of the old one, while one that was only moved or documented differently must."""
    above = {object, *Component.__mro__, *BASES.values()}
    code: dict[str, str] = {}
    pending = {c.__module__ for c in type(component).__mro__ if c not in above}
    while pending:
        name = pending.pop()
        module = importlib.import_module(name)
        # Not inspect.getsource, which raises for an empty file.
        tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
        pending |= _beside(tree, module.__package__ or "") - code.keys()
        code[name] = _bare(tree)
    texts = sorted(code.values())  # not by module: a moved file is the same code
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _beside(tree: ast.Module, package: str) -> set[str]:
    """The modules of `package` that a file of it imports, in whatever form."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            names |= {base, *(f"{base}.{a.name}" for a in node.names)}
    return {n for n in names if package and n.rpartition(".")[0] == package and find_spec(n)}


def _bare(tree: ast.Module) -> str:
    """A file's code without imports and docstrings."""
    for node in ast.walk(tree):
        for name, block in ast.iter_fields(node):
            if name in ("body", "orelse", "finalbody") and isinstance(block, list) and block:
                setattr(node, name, [n for n in block if not _is_ignored(n)] or [ast.Pass()])
    return ast.unparse(tree)  # not `ast.dump`, which changes with Python's minor version


_DESCRIPTIONS = frozenset({"on_pairs", "is_multi_dpo", "reconstruction"})
"""What a loss says about itself on boards: no result depends on it."""


def _is_ignored(node: ast.stmt) -> bool:
    """Whether a statement is a docstring, a description, an import, or for type checking only."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in _DESCRIPTIONS:
        return True
    if isinstance(node, ast.If):
        return not node.orelse and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return text or isinstance(node, ast.Import | ast.ImportFrom)


def _absolute(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Variables):
        path = _absolute(value.path(), info)
        value.note(str(path))
        return path
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        raise ValueError("expected the path of a file or folder")
    base = (info.context or {}).get("base", Path.cwd())
    # Unlike Path.expanduser, os.path.expanduser leaves an unknown user's `~name` as it is.
    return Path(os.path.normpath(Path(base) / os.path.expanduser(value)))


def _model_reference(value: Any, info: ValidationInfo) -> Any:
    """A local folder becomes absolute; a built-in name or hub id stays as it is. With variables it is a folder: a hub
    id would be sent to the hub."""
    if isinstance(value, Variables):
        return str(_absolute(value, info))
    if not isinstance(value, str):
        return value
    local = _absolute(value, info)
    looks_local = value.startswith((".", "/", "~")) or os.path.isdir(local)
    return str(local) if looks_local else value


RecipePath = Annotated[Path, BeforeValidator(_absolute)]
"""A path in a recipe: relative to the recipe's folder (the validation context's `base`), `~` and variables expanded."""

ModelReference = Annotated[str, BeforeValidator(_model_reference)]
"""A model in a recipe: a built-in name, a hub id, or a local folder (made absolute like a RecipePath)."""


@cache
def _builtin_modules(kind: Kind) -> dict[str, str]:
    """Component name -> module path, for the components in this package."""
    folder = FOLDERS[kind]
    package = importlib.import_module(f"harness.{folder}")
    return {
        m.name: f"harness.{folder}.{m.name}{f'.{kind}' if m.ispkg else ''}"
        for m in pkgutil.iter_modules(package.__path__)
        if not m.name.startswith("_")
    }


@cache
def modules(kind: Kind) -> dict[str, str]:
    """Component name -> module path, for all installed components of a kind."""
    external = {entry.name: entry.value for entry in entry_points(group=f"harness.{FOLDERS[kind]}")}
    return external | _builtin_modules(kind)


@cache
def component_class(kind: Kind, name: str) -> type[Component]:
    """The class of a component. Raises KeyError for an unknown name, ComponentError for a file that can't be loaded or
    defines no such class."""
    # Entry points are read only when needed: that reads the metadata of every installed package.
    path = _builtin_modules(kind).get(name) or modules(kind)[name]
    try:
        module: ModuleType = importlib.import_module(path)
    except Exception as error:  # whatever somebody's file raises; the cause is kept for its author
        if missing := missing_package(error, f"{kind} '{name}'"):
            raise ComponentError(str(missing)) from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ComponentError(f"{kind} '{name}': {path} can't be loaded ({reason}); mend that file") from error
    classes = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Component) and c.__module__ == module.__name__
    ]
    public = [c for c in classes if not c.__name__.startswith("_")]
    if len(public) != 1:
        raise ComponentError(f"{kind} '{name}': {path} must define exactly one public Component, has {len(public)}")
    if problem := _class_problem(kind, name, public[0]):
        raise ComponentError(f"{kind} '{name}': {path}: {public[0].__name__} {problem}")
    return public[0]


def _class_problem(kind: Kind, name: str, cls: type[Component]) -> str | None:
    """Why a class can't be the component of this kind and name, as the end of a sentence."""
    if not issubclass(cls, BASES[kind]):
        return f"must be derived from {BASES[kind].__name__}"
    if missing := sorted(cls.__abstractmethods__):
        return f"must define {', '.join(missing)}"
    own_name = cls.model_fields["name"].default
    if isinstance(own_name, str) and own_name != name:
        return f"has the name '{own_name}', and is installed as '{name}'; make them the same"
    figures = cls.figures if issubclass(cls, Benchmark) else ()
    if strange := next((f.metric for f in figures if f.benchmark != name), None):
        return f"declares the figure '{strange}'; expected '{name}.' before each figure's own name"
    return None


def benchmark_class(name: str) -> type[Benchmark]:
    """A benchmark's class; the base class itself for one that is not installed here."""
    return cast(type[Benchmark], component_class("benchmark", name)) if _is_installed("benchmark", name) else Benchmark


def ships_with_harness(kind: Kind, name: str) -> bool:
    """Whether a component is in this package, not in another one that extends it."""
    return name in _builtin_modules(kind)


def loss_class(name: str) -> type[Loss]:
    """A loss's class; the base class itself for one that is not installed here, and for TRL's losses."""
    return cast(type[Loss], component_class("loss", name)) if _is_installed("loss", name) else Loss


def _is_installed(kind: Kind, name: str) -> bool:
    return name in _builtin_modules(kind) or name in modules(kind)


def build(kind: Kind, fields: Mapping[str, Any], context: Mapping[str, Any] | None = None) -> Component:
    """Build a component from a recipe's mapping. Raises pydantic's ValidationError, or PydanticCustomError of type
    `component_name` when the name is missing or unknown."""
    name = fields.get("name")
    if not isinstance(name, str):
        expected = f"expected {{name: ...}}, the name one of {', '.join(sorted(modules(kind)))}"
        raise PydanticCustomError("component_name", "{message}", {"message": f"no {kind} named: {expected}"})
    if not _is_installed(kind, name):
        message = f"unknown {kind} {quoted(name)}; {nearest(name, modules(kind))}"
        raise PydanticCustomError("component_name", "{message}", {"message": message})
    return component_class(kind, name).model_validate(dict(fields), context=dict(context or {}))


def ready_alone(reward: RewardModel, folder: Path, ask: Callable[[Judge], Ask]) -> Ready:
    """What a reward model, and each of its parts, needs to score outside of a stage, without journals. `folder`: what
    its `fit` has filled; `ask`: raises the error that says that no judge can be asked there."""
    return Ready(folder, lambda _: None, ask, tuple(partial(_score_alone, p, folder, ask) for p in reward.parts))


def _score_alone(
    reward: RewardModel, folder: Path, ask: Callable[[Judge], Ask], rows: Sequence[tuple[Messages, str]]
) -> list[float | None]:
    return reward.score(rows, ready_alone(reward, folder, ask))


def _parse(kind: Kind, value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Component):
        return value
    # The cells of a sweep share most components: equal fields give the same object in all cells.
    components: dict[str, Component] = (info.context or {}).get("components", {})
    key = f"{kind} {value!r}"
    if key not in components:
        components[key] = _build_field(kind, value, info)
    return components[key]


def _build_field(kind: Kind, value: Any, info: ValidationInfo) -> Component:
    if not isinstance(value, Mapping):
        message = f"expected {{name: ...}}, the name one of {', '.join(sorted(modules(kind)))}"
        raise PydanticCustomError("component_type", "{message}", {"message": message})
    try:
        return build(kind, value, info.context)
    except ValidationError as error:
        # pydantic does not splice an inner model's errors into the outer list: the recipe does it with this context.
        fields = sorted(component_class(kind, value["name"]).model_fields)
        context = {"kind": kind, "component": value["name"], "fields": fields, "inner": error.errors()}
        raise PydanticCustomError("component_fields", "{kind} '{component}' has wrong fields", context) from None


# A component is written with its own fields, not only with those of its kind's base class.
SeedField = Annotated[SerializeAsAny[Seed], PlainValidator(partial(_parse, "seed"))]
GeneratorField = Annotated[SerializeAsAny[Generator], PlainValidator(partial(_parse, "generator"))]
RewardField = Annotated[SerializeAsAny[RewardModel], PlainValidator(partial(_parse, "reward"))]
parse_loss = partial(_parse, "loss")
"""The validator of a loss's field, also for a field that may hold a loss that is not a component
(`harness.recipe.trl_loss`)."""
JudgeField = Annotated[SerializeAsAny[Judge], PlainValidator(partial(_parse, "judge"))]
BenchmarkField = Annotated[SerializeAsAny[Benchmark], PlainValidator(partial(_parse, "benchmark"))]
