"""What `harness plan --detect` prints: the designs that show a difference, and what was assumed."""

import math
import shlex
from collections.abc import Callable, Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from harness.boards.format import number
from harness.models.demand.devices import device
from harness.pipeline.detect.designs import Size
from harness.pipeline.detect.lines import named, percent, sized, spread_words
from harness.pipeline.detect.search import Detection, Option
from harness.pipeline.plan_view import amount, duration
from harness.printable import printable
from harness.servers.prices import dollars

OWN = "*"
"""Marks the recipe's own design."""


def detect_view(found: Detection) -> Iterator[RenderableType]:
    """The parts of it, all but the command for the first design."""
    yield Text(printable(_head(found)), style="bold")
    if not found.options:
        yield Text(printable(_out_of_reach(found)), style="yellow")
    yield _table(found)
    for line in _notes(found):
        yield Text(printable(line), style="dim")


def _head(found: Detection) -> str:
    (one, other), *others = found.subject.pairs
    more = f" and {len(others)} more comparison{'s' if len(others) > 1 else ''}" if others else ""
    points = " points" if found.subject.figure.in_percent else ""
    return (
        f"{one} against {other}{more}, by {named(found.subject.figure)}: designs that show a true difference of "
        f"{found.wanted.difference:g}{points} with {percent(found.wanted.power)} power"
    )


def _out_of_reach(found: Detection) -> str:
    size, smallest = found.largest
    largest = f"{size.seeds} seeds and {size.prompts:,} prompts{_times(size)}"
    if smallest == math.inf:
        return f"No design in reach shows it. The largest, {largest}, shows no difference of any size."
    least = sized(smallest, found.subject.figure)
    return f"No design in reach shows it. The largest, {largest}, shows differences of {least} or more."


def _times(size: Size) -> str:
    answers = f", {size.answers} answers to each" if size.answers > 1 else ""
    return answers + (f", {size.verdicts} verdicts on each answer" if size.verdicts > 1 else "")


def _table(found: Detection) -> Table:
    own_is_listed = any(option.is_own for option in found.options)
    rows = [*found.options, *([] if own_is_listed else [found.own])]
    columns = _columns(found, rows)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in columns:
        table.add_column(title, no_wrap=True, justify="right")
    for option in rows:
        if not own_is_listed and option.is_own:
            table.add_section()
        table.add_row(*(cell(option) for cell in columns.values()), style="bold" if option.is_own else None)
    return table


def _columns(found: Detection, rows: Sequence[Option]) -> dict[str, Callable[[Option], str]]:
    """What a table shows of a design, by title."""
    columns: dict[str, Callable[[Option], str]] = {
        "seeds": lambda option: f"{OWN + ' ' if option.is_own else ''}{option.size.seeds}",
        "prompts": lambda option: f"{option.size.prompts:,}",
    }
    if any(option.size.answers > 1 for option in rows):
        columns["answers\neach"] = lambda option: str(option.size.answers)
    if any(option.size.verdicts > 1 for option in rows):
        columns["times\njudged"] = lambda option: str(option.size.verdicts)
    columns |= {
        "power": lambda option: "–" if option.power is None else percent(option.power),
        "shows": lambda option: _smallest(option, found),
        "generate": lambda option: amount(option.cost.generated),
        "train on": lambda option: amount(option.cost.trained),
        "time": lambda option: duration(option.cost.seconds),
    }
    if any(option.cost.dollars != 0 for option in rows):
        columns["dollars"] = lambda option: _dollars(option.cost.dollars)
    return columns


def _dollars(amount: float | None) -> str:
    """In cents from a dollar on."""
    return dollars(amount) if amount is None or amount < 1 else f"${amount:,.2f}"


def _smallest(option: Option, found: Detection) -> str:
    if option.power is None:
        return "–"
    if option.detectable == math.inf:
        return "none"
    return number(option.detectable, found.subject.figure.difference_decimals)


def _notes(found: Detection) -> Iterator[str]:
    figure, wanted = found.subject.figure, found.wanted
    yield f"{OWN} the recipe as it is.{_of_one_seed(found) if found.own.power is None else ''}"
    holm = ""
    if (count := len(found.subject.pairs)) > 1:
        holm = f" Each of {count} comparisons is tested at the first step of Holm's correction."
    yield (
        f"power: to show this difference. shows: the smallest difference that {percent(wanted.power)} power shows, the "
        f"minimum detectable effect.{holm}"
    )
    has = f" The store has {duration(found.stored.seconds)} of it already." if found.stored.seconds else ""
    yield (
        f"generate, train on: tokens. Costs are those of a whole run on {device().name}, one stage after the other: a "
        f"guide, not a promise.{has}"
    )
    pilot = "" if wanted.pilot else "--pilot BOARD measures them, "
    unit = " in points" if figure.in_percent else ""
    said = spread_words(found.spread, figure)
    example = ",".join(text.replace(" ", "=") for text in said)
    yield (
        f"Standard deviations{unit}: {', '.join(said)}. training is of one method over its seeds, the others of a "
        f"difference on one prompt. {_sources(found)}. {pilot}--assume {example} sets them."
    )


def _of_one_seed(found: Detection) -> str:
    smallest, figure = found.own.detectable, found.subject.figure
    if smallest == math.inf:
        return " One training seed says nothing about methods."
    least = sized(smallest, figure)
    return f" One training seed says nothing about methods; it tells two checkpoints apart from {least} on."


def _sources(found: Detection) -> str:
    """`Training: assumed; prompts and rest: ...`, names of one source together."""
    by_source: dict[str, list[str]] = {}
    for name, value in found.spread.said.items():
        if name in found.spread.sources and (name != "judge" or value > 0):
            by_source.setdefault(found.spread.sources[name], []).append(name)
    text = ". ".join(f"{' and '.join(names)}: {source}" for source, names in by_source.items())
    return text[:1].upper() + text[1:]


def first_command(found: Detection, recipe: str, edits: Sequence[str], cell: str | None) -> str | None:
    """The command that runs the cheapest design, for a shell; None where none is in reach. `recipe`, `edits`, `cell`:
    as on the command line."""
    if not found.options:
        return None
    options = [word for edit in (*edits, *found.options[0].edits) for word in ("--set", edit)]
    return shlex.join(["harness", "run", recipe, *options, *(["--cell", cell] if cell else [])])
