"""A board's answer as text: its sentences, and its differences drawn with their intervals around a line at zero."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.boards.format import visible
from harness.claims.answer import Answer
from harness.claims.effects import Effect
from harness.printable import printable
from harness.report.markup import bullets, escape_markdown

if TYPE_CHECKING:
    from rich.console import RenderableType

NARROWEST, WIDEST = 20, 60
"""Character cells of the drawing."""


class Drawn(NamedTuple):
    """One difference: what is compared, and its interval as a line of characters, with `●` at the estimate and `│` at
    zero."""

    name: str
    line: str


def drawn_differences(effects: Sequence[Effect], width: int) -> list[Drawn]:
    """The differences on one scale, `width` characters wide; those of too few prompts are left out."""
    shown = [effect for effect in effects if effect.ci95 is not None]
    ends = [x for effect in shown for x in (*(effect.ci95 or ()), effect.difference)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    if low == high:
        return []

    def place(x: float) -> int:
        return int((x - low) / (high - low) * (width - 1) + 0.5)

    lines = []
    for effect in shown:
        first, last = (place(x) for x in effect.ci95 or (0.0, 0.0))
        cells = ["─" if first <= i <= last else " " for i in range(width)]
        cells[place(0)] = "│"
        cells[place(effect.difference)] = "●"
        lines.append(Drawn(f"{effect.value} − {effect.against}", "".join(cells)))
    return lines


def answer_terminal(found: Answer, width: int) -> "Iterator[RenderableType]":
    """The answer for a terminal: question, statements with the parts of their errors, the drawing, cautions."""
    from rich.text import Text

    colours = {"better": "bold green", "worse": "bold red", "equal": "bold cyan", "open": "bold"}
    yield Text(_line(found.question), style="dim")
    for statement in found.statements:
        yield Text(_line(statement.text), style=colours[statement.kind])
        if statement.parts:
            yield Text(f"  {statement.parts}", style="dim")
    if found.rest:
        yield Text(_line(found.rest))
    drawn = drawn_differences([s.effect for s in found.statements], max(NARROWEST, min(WIDEST, width - 34)))
    names = max((len(_line(d.name)) for d in drawn), default=0)
    if drawn and names + len(drawn[0].line) + 2 <= width:
        yield ""
        for d in drawn:
            yield Text.assemble((_line(d.name).rjust(names), "dim"), "  ", d.line, no_wrap=True)
    for caution in found.cautions:
        yield Text(_line(caution), style="yellow")


def answer_markdown(found: Answer) -> list[str]:
    """The answer as Markdown."""
    told = [f"**{escape_markdown(s.text)}**{' ' + s.parts if s.parts else ''}" for s in found.statements]
    parts = [escape_markdown(found.question), bullets([*told, *([found.rest] if found.rest else [])])]
    return [*parts, *([bullets(escape_markdown(c) for c in found.cautions)] if found.cautions else [])]


def _line(text: str) -> str:
    return printable(visible(text))
