"""The command that lists components: what `{name: ...}` in a recipe may be, from the classes themselves."""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.components import Kind
    from harness.protocols import Component

PLACES: "dict[Kind, str]" = {
    "seed": "data.seeds",
    "generator": "data.prompts.generator, data.responses.generator",
    "reward": "data.reward, data.other_rewards",
    "loss": "methods[].loss",
    "judge": "evaluation.judge, evaluation.judges",
    "benchmark": "evaluation.benchmarks",
}
"""Where a recipe takes a component of each kind."""
_LIMITS = {"minimum": ">= ", "exclusiveMinimum": "> ", "maximum": "<= ", "exclusiveMaximum": "< "}


def components(
    kind: Annotated[
        str | None, typer.Argument(help="seed, generator, reward, loss, judge or benchmark.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One component of the kind.", show_default=False)] = None,
) -> None:
    """List the components that are installed; with a kind and a name, one component's description and fields."""
    from harness.components import FOLDERS, modules
    from harness.errors import RecipeError, nearest, quoted
    from harness.printable import terminal

    console = terminal()
    if kind is None:
        for i, known in enumerate(FOLDERS):
            console.print(*([""] if i else []), _listing(known), sep="\n")
        return
    chosen = next((known for known in FOLDERS if known == kind), None)
    if chosen is None:
        raise RecipeError(f"components: unknown kind {quoted(kind)}; {nearest(kind, FOLDERS)}")
    if name is None:
        console.print(_listing(chosen))
        return
    if name not in modules(chosen):
        raise RecipeError(f"components: unknown {chosen} {quoted(name)}; {nearest(name, modules(chosen))}")
    for part in _page(chosen, name):
        console.print(part)


def _listing(kind: "Kind") -> "RenderableType":
    """All components of a kind, each with the first sentence of its class's docstring."""
    from rich.table import Table
    from rich.text import Text

    from harness.components import modules
    from harness.printable import printable

    table = Table(
        box=None,
        show_header=False,
        padding=(0, 2, 0, 0),
        title=Text.assemble((kind, "bold"), f"  ({PLACES[kind]})"),
        title_justify="left",
        title_style="",
    )
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name in sorted(modules(kind)):
        table.add_row(Text(f"  {printable(name)}"), Text(printable(_summary(kind, name))))
    return table


def _summary(kind: "Kind", name: str) -> str:
    from harness.components import component_class
    from harness.errors import ComponentError

    try:
        text = inspect.getdoc(component_class(kind, name)) or ""
    except ComponentError as error:  # a broken file must not hide all the other components
        return str(error)
    first = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z`])", first)[0]


def _page(kind: "Kind", name: str) -> "Iterator[RenderableType]":
    """One component: where it is, its docstring, its fields, and what its kind declares."""
    from rich.padding import Padding
    from rich.text import Text

    from harness.components import component_class

    cls = component_class(kind, name)
    yield Text.assemble((f"{kind} {name}", "bold"), f"  {cls.__module__}.{cls.__name__}")
    for paragraph in _paragraphs(inspect.getdoc(cls) or ""):
        yield Padding(Text(paragraph), (1, 0, 0, 0))
    yield Padding(_fields(cls), (1, 0, 0, 0))
    if (declared := _declared(cls)) is not None:
        yield Padding(declared, (1, 0, 0, 0))


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs, their lines joined so that they are wrapped at the terminal's width; indented ones as they stand."""
    for block in filter(str.strip, text.split("\n\n")):
        lines = block.strip("\n").splitlines()
        is_laid_out = any(line.startswith((" ", "- ", "| ")) for line in lines[1:])
        yield "\n".join(lines) if is_laid_out else " ".join(line.strip() for line in lines)


def _fields(cls: "type[Component]") -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    schema = cls.model_json_schema()
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("field", "type", "default", "bounds"):
        table.add_column(title, no_wrap=title in ("field", "default"), overflow="fold")
    for field, shape in schema["properties"].items():
        if field == "name":
            continue
        default = "required" if field in schema.get("required", ()) else _written(_default(cls, field, shape))
        table.add_row(*map(Text, (field, _type(cls, field, shape, schema), default, ", ".join(_bounds(shape)))))
    return table if table.row_count else Text("It has no fields.")


def _default(cls: "type[Component]", field: str, shape: Mapping[str, Any]) -> Any:
    if "default" in shape:
        return shape["default"]
    by_alias = {info.alias or key: info for key, info in cls.model_fields.items()}
    return by_alias[field].get_default(call_default_factory=True)


def _written(value: Any) -> str:
    """A default as a recipe would have it."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case list() | tuple():
            return f"[{', '.join(map(_written, value))}]"
        case dict():
            return f"{{{', '.join(f'{key}: {_written(item)}' for key, item in value.items())}}}"
        case _:
            return str(value)


def _type(cls: "type[Component]", field: str, shape: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A field's type in a recipe's words, from its JSON schema."""
    if "anyOf" in shape:
        return " | ".join(dict.fromkeys(_type(cls, field, part, schema) for part in shape["anyOf"]))
    if "enum" in shape:
        return " | ".join(map(_written, shape["enum"]))
    if "const" in shape:
        return _written(shape["const"])
    if "$ref" in shape:
        inner = schema["$defs"][shape["$ref"].rpartition("/")[2]]
        return f"{{{', '.join(inner.get('properties', {}))}}}"
    match shape.get("type"):
        case "array":
            return f"list of {_type(cls, field, shape.get('items', {}), schema)}"
        case "object":
            return f"mapping to {_type(cls, field, shape.get('additionalProperties', {}), schema)}"
        case "string" if shape.get("format") == "path":
            return "path"
        case None:
            return _component_type(cls, field)
        case known:
            return str(known)


def _component_type(cls: "type[Component]", field: str) -> str:
    """The kind of component that a field takes: JSON schema does not know of those."""
    from harness.protocols import Generator, Judge, RewardModel

    waiting: list[Any] = [cls.model_fields[field].annotation]
    while waiting:
        part = waiting.pop()
        for base, kind in ((Generator, "generator"), (Judge, "judge"), (RewardModel, "reward")):
            if part is base:
                return f"{kind} {{name: ...}}"
        waiting += get_args(part)
    return "any"


def _bounds(shape: Mapping[str, Any]) -> list[str]:
    parts = [text for part in shape.get("anyOf", ()) for text in _bounds(part)]
    parts += [f"{sign}{shape[key]:g}" for key, sign in _LIMITS.items() if key in shape]
    if shape.get("minLength"):
        parts.append("not empty")
    if shape.get("minItems"):
        parts.append(f"{shape['minItems']} or more")
    return list(dict.fromkeys(parts))


def _declared(cls: "type[Component]") -> "RenderableType | None":
    """What a loss or a benchmark says of itself beside its fields."""
    from rich.table import Table
    from rich.text import Text

    from harness.benchmark import Benchmark
    from harness.protocols import Loss

    if issubclass(cls, Loss):
        pairs = "yes" if cls.on_pairs else "no"
        return Text(f"on_pairs: {pairs}\nreconstruction: {cls.reconstruction or 'no'}")
    if not issubclass(cls, Benchmark):
        return None
    table = Table(
        box=None,
        header_style="bold",
        padding=(0, 2, 0, 0),
        title=Text("Figures with default options"),
        title_justify="left",
        title_style="bold",
    )
    for title in ("metric", "title", "unit", "better"):
        table.add_column(title, no_wrap=title == "metric", overflow="fold")
    table.add_column("gate\nmargin", justify="right")
    for figure in cls.figures_of({}):
        better = {True: "higher", False: "lower", None: "–"}[figure.higher_is_better]
        is_gated = figure.pairing is not None and figure.higher_is_better is not None
        default = "to name" if figure.default_margin is None else f"{figure.default_margin:g}"
        margin = default if is_gated else "–"
        table.add_row(*map(Text, (figure.metric, figure.title, figure.unit or "–", better, margin)))
    return table
