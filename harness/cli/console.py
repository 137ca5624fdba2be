"""What several commands do: print a board, print the results of gates, end quickly."""

import gc
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from harness.boards.entry import Board
    from harness.gate.check import Result

P = ParamSpec("P")


def short(command: Callable[P, None]) -> Callable[P, None]:
    """A command that ends at once. It mostly imports modules, which leaves many objects and little garbage: collecting
    that would take a sixth of its time."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            command(*args, **kwargs)
        finally:
            if was_enabled:
                gc.enable()

    return run


def print_board(board: "Board", console: "Console") -> None:
    """Print a board's table."""
    from harness.report.terminal import terminal_table

    console.print(terminal_table(board))


def report_gates(results: "Sequence[Result]", junit: Path | None = None, markdown: Path | None = None) -> None:
    """Print the results of gates and write them for CI; exits with the worst code unless all have passed."""
    from harness.gate.check import REFUSED, VERDICTS, worst
    from harness.gate.ci import junit_xml, summary_markdown

    for result in results:
        line = f"harness gate: {VERDICTS[result.code]}: row {result.row}"
        line += f" against {result.baseline}: " if result.baseline else ": "
        print(line + " ".join(result.reason.split()), file=sys.stderr if result.code == REFUSED else sys.stdout)
    if junit:
        junit.write_text(junit_xml(results), encoding="utf-8", errors="replace")
    if markdown:
        with markdown.open("a", encoding="utf-8", errors="replace") as file:
            file.write(summary_markdown(results))
    if code := worst(results):
        raise typer.Exit(code)
