"""A board in a notebook: its result tables, as Markdown."""

from harness.boards.board import Board
from harness.boards.catalog import Figures, present
from harness.boards.entry import comparable
from harness.report.markdown import figures_table
from harness.report.markup import escape_markdown
from harness.report.notes import uncalibrated_note


def results(board: Board) -> str:
    """One table for each group of comparable rows, with a warning if the judge is uncalibrated."""
    parts = [f"**{escape_markdown(board.name)}**"]
    if note := uncalibrated_note(board.entries):
        parts.append(f"> **Uncalibrated judge.** {escape_markdown(note)}")
    parts += [figures_table(present(Figures(rows).board, rows), rows, loss=True) for rows in comparable(board.entries)]
    return "\n\n".join(parts) + "\n"
