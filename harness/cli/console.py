"""What several commands do: print a board, print the results of gates, end quickly.

Commands print with `say` and `say_json`, or to a console of `harness.printable.terminal`: texts from outside can then
send no escape sequence, forge no line and command no CI runner.
"""

import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from harness.printable import LineFormatter, escaped, printable, printable_json

if TYPE_CHECKING:
    from rich.console import Console

    from harness.boards.board import Board
    from harness.gate.check import Result
    from harness.servers.hosts import Place, Question

P = ParamSpec("P")
AllowHostOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        metavar="HOST",
        help="A server that may be sent the key that the recipe names for it: HOST, HOST:PORT or http://HOST "
        "(repeatable). This machine and vendors' own hosts need none; see also $HARNESS_HOME/hosts.yaml.",
    ),
]


def say(text: str, *, error: bool = False) -> None:
    """Print a line, to stderr if `error`."""
    print(escaped(" ".join(text.splitlines())), file=sys.stderr if error else sys.stdout)


def say_json(value: Any, indent: int | None = None) -> None:
    """Print JSON, for programs."""
    print(printable_json(value, indent))


def log_printably() -> None:
    """Make warnings that nobody else handles lines of stderr that are fit to print."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(LineFormatter("%(message)s"))
    warnings.formatwarning = _warning_line


def _warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return printable(f"{filename}:{lineno}: {category.__name__}: {message}") + "\n"


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


def question() -> "Question | None":
    """Asks in the terminal whether a key may be sent to a host; None where nobody would answer."""
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return None if in_ci or not (sys.stdin.isatty() and sys.stderr.isatty()) else _ask


def _ask(variable: str, place: "Place") -> bool:
    print(
        printable(f"The recipe would send your key in {variable} to {place}. Send it there in this run? [y/N]"),
        end=" ",
        file=sys.stderr,
    )
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def print_board(board: "Board", console: "Console", only_answer: bool = False) -> None:
    """Print a board's table, or only what it says first."""
    from harness.report.terminal import terminal_answer, terminal_table

    console.print(terminal_answer(board) if only_answer else terminal_table(board))


def report_gates(results: "Sequence[Result]", junit: Path | None = None, markdown: Path | None = None) -> None:
    """Print the results of gates and write them for CI; exits with the worst code unless all have passed."""
    from harness.boards.writing import append_output, write_output
    from harness.gate.check import REFUSED, VERDICTS, worst
    from harness.gate.ci import junit_xml, summary_markdown

    for result in results:
        line = f"harness gate: {VERDICTS[result.code]}: row {result.row}"
        line += f" against {result.baseline}: " if result.baseline else ": "
        say(line + " ".join(result.reason.split()), error=result.code == REFUSED)
    if junit:
        write_output(junit, junit_xml(results))
    if markdown:
        append_output(markdown, summary_markdown(results))
    if code := worst(results):
        raise typer.Exit(code)
