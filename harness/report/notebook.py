"""A board in a notebook: its result tables, as Markdown."""

from harness.boards.board import Board
from harness.boards.catalog import Figures, present
from harness.boards.entry import comparable
from harness.report.judges import judge_warnings
from harness.report.markdown import figures_table, warning_markdown
from harness.report.markup import escape_markdown


def results(board: Board) -> str:
    """One table for each group of comparable rows, with what must be known about the judge."""
    parts = [f"**{escape_markdown(board.name)}**"]
    parts += [warning_markdown(warning) for warning in judge_warnings(board.entries)]
    parts += [figures_table(present(Figures(rows).board, rows), rows, loss=True) for rows in comparable(board.entries)]
    return "\n\n".join(parts) + "\n"
