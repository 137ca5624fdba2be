"""The command that lists components: what `{name: ...}` in a recipe may be, from the classes themselves."""

import inspect
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.components import Kind
    from harness.protocols import Component

PLACES: "dict[Kind, str]" = {
    "seed": "data.seeds, data.ranked",
    "generator": "data.prompts.generator, data.responses.generator",
    "reward": "data.reward, data.other_rewards, evaluation.gold_reward",
    "loss": "methods[].loss",
    "judge": "evaluation.judge, evaluation.judges",
    "benchmark": "evaluation.benchmarks",
}
"""Where a recipe takes a component of each kind."""


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
    from harness.errors import ComponentError, extra_of

    try:
        cls = component_class(kind, name)
    except ComponentError as error:  # a broken file must not hide all the other components
        return str(error)
    first = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=\.) (?=[A-Z`])", first)[0]
    if (missing := _missing(cls)) is None:
        return sentence
    extra = extra_of(missing)
    return f"{sentence} (needs the {'extra' if extra else 'package'} {extra or missing})"


def _missing(cls: "type[Component]") -> str | None:
    """The first package that a component needs and that is not installed, by the name that is imported."""
    from harness.errors import is_installed

    return next((name for name in cls.needs if not is_installed(name)), None)


def _page(kind: "Kind", name: str) -> "Iterator[RenderableType]":
    """One component: where it is, its docstring, its fields, and what its kind declares."""
    from rich.padding import Padding
    from rich.text import Text

    from harness.components import component_class
    from harness.errors import installation

    cls = component_class(kind, name)
    yield Text.assemble((f"{kind} {name}", "bold"), f"  {cls.__module__}.{cls.__name__}")
    if missing := _missing(cls):
        yield Text(f"It needs the package {missing}, which is not installed: {installation(missing)}")
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
    from rich.text import Text

    from harness.cli.own.reference import field_table
    from harness.recipe.reference.fields import fields_of

    fields = [field for field in fields_of(cls) if field.name != "name"]
    return field_table(fields) if fields else Text("It has no fields.")


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
