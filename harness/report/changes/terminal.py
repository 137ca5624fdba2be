"""What changed between two boards, drawn for a terminal of any width."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.boards.format import visible
from harness.printable import printable
from harness.report.changes.found import Changes
from harness.report.changes.words import (
    HOW_TESTED,
    MovesTable,
    board_title,
    change_line,
    moves_table,
    summary,
)

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table


def _shown(text: str) -> str:
    return printable(visible(text))


class DrawnChanges:
    """The changes as a rich renderable: the summary, then the sections, then a table for each figure."""

    def __init__(self, changes: Changes) -> None:
        self.changes = changes

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[RenderableType]":
        from rich.text import Text

        old, new = (_shown(board_title(board)) for board in (self.changes.old, self.changes.new))
        yield Text.assemble((old, "bold"), "  →  ", (new, "bold"))
        for line in summary(self.changes):
            yield Text(_shown(line))
        for title, changes in self.changes.sections:
            yield Text.assemble("\n", (title, "bold cyan"))
            grid = _grid()
            for change in changes:
                grid.add_row(_shown(change_line(change)), _shown(change.text))
            yield grid
        tables = [moves_table(found) for found in self.changes.moves]
        for table in tables:
            yield Text.assemble("\n", (_shown(table.title), "bold cyan"))
            if table.rows:
                yield _moves(table)
            for note in table.notes:
                yield Text(_shown(note), style="dim")
        if any(table.rows for table in tables):
            yield Text(f"\n{HOW_TESTED}", style="dim")


def _grid() -> "Table":
    """Two columns of texts that are folded, never cut."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(overflow="fold", ratio=2)
    grid.add_column(overflow="fold", ratio=3)
    return grid


def _moves(found: MovesTable) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="")
    table.add_column(found.heads[0], overflow="fold", min_width=8)
    for head in found.heads[1:]:
        table.add_column(head, justify="right", no_wrap=True)
    for cells, moved in found.marked:
        table.add_row(*map(_shown, cells), style="bold" if moved else "")
    return table
