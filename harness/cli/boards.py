"""Commands about boards: show, report, merge, diff."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import print_board, say, short

if TYPE_CHECKING:
    from rich.console import Console

BoardArgument = Annotated[Path, typer.Argument(help="A board's folder, or its board.json.", show_default=False)]
LEADERBOARDS = Path("leaderboards")
"""Where `harness run` writes boards."""


@short
def show(
    board: Annotated[
        Path | None,
        typer.Argument(
            help="A board's folder, its board.json, or a folder of boards; by default leaderboards.", show_default=False
        ),
    ] = None,
    answer: Annotated[
        bool, typer.Option("--answer", help="Only what it says first, with every comparison; also in the SVG.")
    ] = False,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Also draw it into an SVG file.")] = None,
    alpaca_eval: Annotated[
        Path | None, typer.Option("--alpaca-eval", metavar="FILE", help="Also write alpaca_eval's leaderboard CSV.")
    ] = None,
) -> None:
    """Print a leaderboard in the terminal; of a folder of boards, a list: when each was written, and what it asks."""
    from harness.boards.read import boards_in, read_board
    from harness.boards.writing import write_output
    from harness.errors import DataError
    from harness.pipeline.export.links import gone
    from harness.printable import terminal

    if board is None and not boards_in(LEADERBOARDS):
        raise DataError(f"there are no boards in {LEADERBOARDS}; name one, as in harness show BOARD, or run a recipe")
    board = board or LEADERBOARDS
    if not (svg or alpaca_eval or answer) and (boards := boards_in(board)):
        _list_boards(boards)
        return
    rows = read_board(board)
    print_board(rows, terminal(), only_answer=answer)
    if line := gone(board if board.is_dir() else board.parent):
        say(line, error=True)
    if svg:
        picture = terminal(record=True, width=100, file=io.StringIO(), force_terminal=True)
        print_board(rows, picture, only_answer=answer)
        write_output(svg, drawing(picture, f"harness show {board}{' --answer' if answer else ''}"))
    if alpaca_eval:
        from harness.report.csv_files import alpaca_eval_csv

        write_output(alpaca_eval, alpaca_eval_csv(rows))


def drawing(picture: "Console", title: str) -> str:
    """What a recording console has printed, as SVG. Without rich's web fonts: a picture in a README asks nobody for
    anything."""
    from harness.printable import printable

    svg = picture.export_svg(title=printable(title), unique_id="board")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def _list_boards(paths: Sequence[Path]) -> None:
    """A line for each board, and below it what it asks."""
    from harness.boards.read import read_board
    from harness.boards.versions.history import moment
    from harness.claims.answer import answer
    from harness.errors import DataError

    for path in paths:
        try:
            board = read_board(path)
        except DataError as error:
            say(f"{path}  can't be read: {error}")
            continue
        count = f"{len(board.entries):,} {'row' if len(board.entries) == 1 else 'rows'}"
        say("  ".join(part for part in (str(path), moment(board.generated), count) if part))
        found = answer(board.entries)
        say(f"    {found.lines[0] if found else 'No two of its rows can be compared.'}")


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
    rename: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[BOARD:]OLD=NEW",
            help="Give a row another id (repeatable): of the last board that has it, or of BOARD, which is its path or "
            "its number.",
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also replace a board whose rows would be lost.")] = False,
) -> None:
    """Merge several boards into one: all their rows, with all comparisons computed again."""
    from harness.boards.read import read_board
    from harness.printable import terminal
    from harness.report.merge import merge_boards

    print_board(read_board(merge_boards(boards, out, replace=replace, rename=rename or ())), terminal())


@short
def diff(
    boards: Annotated[
        list[Path],
        typer.Argument(metavar="[OLD] NEW", help="Boards' folders; by default OLD is the board that NEW replaced."),
    ],
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also append it as Markdown, as to $GITHUB_STEP_SUMMARY.")
    ] = None,
) -> None:
    """What changed between two boards: recipe, code, data, judge; and which rows moved, by paired tests."""
    from harness.boards.read import read_board
    from harness.boards.versions.history import last_kept
    from harness.errors import DataError
    from harness.printable import terminal
    from harness.report.changes.found import changes_between
    from harness.report.changes.terminal import DrawnChanges

    if len(boards) > 2:
        raise DataError(f"harness diff compares two boards, got {len(boards)}; name the old one, then the new one")
    now = read_board(boards[-1])
    old = boards[0] if len(boards) == 2 else last_kept(boards[-1])
    changes = changes_between(read_board(old), now)
    terminal().print(DrawnChanges(changes))
    if markdown:
        from harness.boards.writing import append_output
        from harness.report.changes.markdown import changes_markdown

        append_output(markdown, changes_markdown(changes))
