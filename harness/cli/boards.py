"""Commands about boards: show, report, merge, gate, baseline."""

import io
import re
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import print_board, report_gates, say, short

BoardArgument = Annotated[Path, typer.Argument(help="A board's folder, or its board.json.", show_default=False)]


@short
def show(
    board: BoardArgument,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Also draw it into an SVG file.")] = None,
    alpaca_eval: Annotated[
        Path | None, typer.Option("--alpaca-eval", metavar="FILE", help="Also write alpaca_eval's leaderboard CSV.")
    ] = None,
) -> None:
    """Print a leaderboard in the terminal; of a folder of boards, their paths."""
    from harness.boards.read import boards_in, read_board
    from harness.boards.writing import write_output
    from harness.printable import printable, terminal

    if not (svg or alpaca_eval) and (boards := boards_in(board)):
        for path in boards:
            say(str(path))
        return
    rows = read_board(board)
    print_board(rows, terminal())
    if svg:
        picture = terminal(record=True, width=100, file=io.StringIO(), force_terminal=True)
        print_board(rows, picture)
        # Without rich's web fonts: a picture in a README asks nobody for anything.
        drawing = picture.export_svg(title=printable(f"harness show {board}"), unique_id="board")
        write_output(svg, re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL))
    if alpaca_eval:
        from harness.report.csv_files import alpaca_eval_csv

        write_output(alpaca_eval, alpaca_eval_csv(rows))


def report(
    board: BoardArgument,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write a board's page: one HTML file with tables, charts, comparisons and a browser of the answers."""
    from harness.boards.folder import foreign_file
    from harness.errors import StoreError
    from harness.report.page import write_page

    folder = (board if board.is_dir() else board.parent).resolve()
    if foreign := foreign_file(folder, ["index.html"]):
        raise StoreError(f"{board}: the harness did not write the {foreign} there; move it away, and try again")
    path = write_page(board)
    say(str(path))
    if open_page:
        typer.launch(str(path.absolute()))


def merge(
    boards: Annotated[list[Path], typer.Argument(help="Boards' folders.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The new board's folder.")],
    replace: Annotated[bool, typer.Option("--replace", help="Also replace a board whose rows would be lost.")] = False,
) -> None:
    """Merge several boards into one: all their rows, with all comparisons computed again."""
    from harness.boards.read import read_board
    from harness.printable import terminal
    from harness.report.merge import merge_boards

    print_board(read_board(merge_boards(boards, out, replace=replace)), terminal())


@short
def gate(
    board: BoardArgument,
    baseline: Annotated[
        Path | None,
        typer.Option(help="A file that `harness baseline promote` wrote, or another board.", show_default=False),
    ] = None,
    row: Annotated[str | None, typer.Option(help="The row to check; by default the only trained one.")] = None,
    baseline_row: Annotated[
        str | None,
        typer.Option(
            help="The baseline's row; by default the one named like --row, else its only trained one. Without "
            "--baseline: a row of the same board."
        ),
    ] = None,
    metric: Annotated[str, typer.Option(help="The metric to compare.")] = "alpaca_eval.win_rate",
    margin: Annotated[
        float | None,
        typer.Option(
            min=0, help="How much worse is acceptable, in the metric's unit; by default what its benchmark declares."
        ),
    ] = None,
    alpha: Annotated[float, typer.Option(min=0.0001, max=0.5, help="One-sided level of the test.")] = 0.05,
    minimum: Annotated[float | None, typer.Option("--min", help="An absolute floor for the metric.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append a Markdown summary, as to $GITHUB_STEP_SUMMARY.")
    ] = None,
) -> None:
    """Check that a row is not worse than a baseline's by more than a margin: a paired test over shared prompts.

    Exit code 0: not worse than the margin; 1: worse, or below the floor; 2: the rows can't be compared; 3: this number
    of prompts can't settle it.
    """
    from harness.gate.ask import ask
    from harness.gate.check import Check

    check = Check(metric=metric, margin=margin, alpha=alpha, minimum=minimum)
    report_gates([ask(board, baseline, check, row, baseline_row)], junit, markdown)


baseline_app = typer.Typer(no_args_is_help=True, help="Baselines for `harness gate`.")


@baseline_app.callback()
def _baseline() -> None:
    pass


@baseline_app.command()
@short
def promote(
    board: BoardArgument,
    row: Annotated[str | None, typer.Option(help="The row; by default the only trained one.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="By default baseline.json in the board's folder."),
    ] = None,
) -> None:
    """Make a board's row the baseline that gates compare with: one file, with who, when and which commit."""
    from harness.gate.baseline import promote as write_baseline

    path = write_baseline(board, row, out)
    say(f"{path}: the baseline from now on")
