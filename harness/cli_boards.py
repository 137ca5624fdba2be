"""Commands about boards: show, merge, gate, baseline."""

import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from harness.gate import Result

BoardArgument = Annotated[Path, typer.Argument(help="A board's folder, or its board.json.", show_default=False)]


def show(
    board: BoardArgument,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Also draw it into an SVG file.")] = None,
    alpaca_eval: Annotated[
        Path | None, typer.Option("--alpaca-eval", metavar="FILE", help="Also write alpaca_eval's leaderboard CSV.")
    ] = None,
) -> None:
    """Print a leaderboard in the terminal."""
    from rich.console import Console

    print_board(board, Console(highlight=False))
    if svg:
        picture = Console(highlight=False, record=True, width=100, file=io.StringIO(), force_terminal=True)
        print_board(board, picture)
        # Without rich's web fonts: a picture in a README asks nobody for anything.
        drawn = picture.export_svg(title=f"harness show {board}", unique_id="board")
        svg.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), encoding="utf-8")
    if alpaca_eval:
        from harness.board_merge import alpaca_eval_leaderboard
        from harness.leaderboard import read_board

        alpaca_eval.write_text(alpaca_eval_leaderboard(read_board(board)), encoding="utf-8")


def report(
    board: BoardArgument,
    show_it: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write a board's page: one HTML file with tables, charts, comparisons and a browser of the answers."""
    from harness.report.page import write_page

    path = write_page(board)
    print(path)
    if show_it:
        typer.launch(str(path.absolute()))


def merge(
    boards: Annotated[list[Path], typer.Argument(help="Boards' folders.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The new board's folder.")],
) -> None:
    """Make one board of several: all their rows, compared anew."""
    from rich.console import Console

    from harness.board_merge import merge as make

    print_board(make(boards, out), Console(highlight=False))


def print_board(board: Path, console: "Console") -> None:
    from harness.board_terminal import terminal_table
    from harness.leaderboard import read_board

    console.print(terminal_table(read_board(board)))


def gate(
    board: BoardArgument,
    baseline: Annotated[
        Path | None, typer.Option(help="What `harness baseline promote` wrote, or a board.", show_default=False)
    ] = None,
    row: Annotated[str | None, typer.Option(help="The row to check; else the only trained one.")] = None,
    baseline_row: Annotated[str | None, typer.Option(help="The baseline's row; else --row, or its only one.")] = None,
    metric: Annotated[str, typer.Option(help="What is compared.")] = "alpaca_eval.win_rate",
    margin: Annotated[float, typer.Option(min=0, help="How much worse is still fine, in the metric's unit.")] = 2.0,
    alpha: Annotated[float, typer.Option(min=0.0001, max=0.5, help="One-sided level of the test.")] = 0.05,
    minimum: Annotated[float | None, typer.Option("--min", help="An absolute floor under the metric.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append a Markdown summary, as to $GITHUB_STEP_SUMMARY.")
    ] = None,
) -> None:
    """Check that a row is not worse than a baseline's by more than a margin: a paired test over shared prompts.

    Exit code 0: not worse than the margin; 1: worse, or below the floor; 3: it can't be told at this number of prompts;
    2: they can't be compared.
    """
    from harness.baseline import baseline_entry
    from harness.gate import Check, chosen_row, run_gate

    entry = chosen_row(board, row)
    old = None if baseline is None else baseline_entry(baseline, baseline_row, entry.id)
    check = Check(metric=metric, margin=margin, alpha=alpha, minimum=minimum)
    report_gates([run_gate(entry, old, check)], junit, markdown)


def report_gates(results: "Sequence[Result]", junit: Path | None = None, markdown: Path | None = None) -> None:
    """Print what the gates found, write it for CI, and exit with the worst code, where there is a worse one than 0."""
    from harness.gate import VERDICTS, worst
    from harness.gate_report import junit as as_junit
    from harness.gate_report import markdown as as_markdown

    for result in results:
        line = f"harness gate: {VERDICTS[result.code]}: row {result.row}"
        line += f" against {result.baseline}: " if result.baseline else ": "
        print(line + " ".join(result.reason.split()), file=sys.stderr if result.code == 2 else sys.stdout)
    if junit:
        junit.write_text(as_junit(results), encoding="utf-8", errors="replace")
    if markdown:
        with markdown.open("a", encoding="utf-8", errors="replace") as file:
            file.write(as_markdown(results))
    if code := worst(results):
        raise typer.Exit(code)


baseline_app = typer.Typer(no_args_is_help=True, help="Baselines for `harness gate`.")


@baseline_app.callback()
def _baseline() -> None:
    pass


@baseline_app.command()
def promote(
    board: BoardArgument,
    row: Annotated[str | None, typer.Option(help="The row; else the only trained one.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Else baseline.json in the board's folder.")
    ] = None,
) -> None:
    """Make a board's row the baseline that gates compare with: one file, with who, when and which commit."""
    from harness.baseline import promote as make

    path = make(board, row, out)
    print(f"{path}: the baseline from now on")
