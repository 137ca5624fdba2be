"""A board drawn for a terminal of any width: no figure is ever broken across lines."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.boards.board import Board
from harness.boards.catalog import Figures, present
from harness.boards.entry import Entry, comparable
from harness.boards.facts import doubts_of_rows, judge_name, training_problems
from harness.boards.format import UNPAIRED, bounds, common_counts, number, visible
from harness.boards.training_seeds import OVER_SEEDS, SeedGroup, seed_groups, spread_figure, varied_seed_groups
from harness.claims.answer import answer
from harness.figures import Figure
from harness.printable import printable
from harness.report.answers import answer_terminal
from harness.report.comparisons import significant_differences
from harness.report.curves import curve_lines
from harness.report.judges import JudgeWarning, equivalent_notes, judge_warnings
from harness.report.notes import (
    answering_notes,
    budget_notes,
    margin_notes,
    reconstruction_notes,
    unchecked_notes,
)
from harness.report.sweep import sweep_of_figure, sweep_sections, sweep_terminal
from harness.report.tax import TITLE, tax_notes
from harness.types import Metric

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

_GAP = 2
"""Character cells between two columns: a padding and an empty border."""


def _shown(text: str) -> str:
    """A text on one line, with pictures of its control characters; all else as `printable` renders it."""
    return printable(visible(text))


def terminal_table(board: Board) -> "RenderableType":
    """The board as a rich renderable: each figure with its interval below it, as many columns side by side as fit, and
    the notes needed to read them."""
    return _Terminal(board)


class _Terminal:
    """Lays the board out when it is drawn, because the width is known only then."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[RenderableType]":
        from rich.text import Text

        entries = self.board.entries
        groups = comparable(entries)
        warnings = judge_warnings(entries)
        yield Text.assemble(("Leaderboard ", "dim"), (_shown(self.board.name), "bold"))
        yield from (_panel(warning) for warning in warnings if warning.is_loud)
        if found := answer(entries):
            yield ""
            yield from answer_terminal(found, options.max_width)
        for rows in groups:
            if len(groups) > 1:
                judge = _shown(judge_name(rows[0])) or "no judge"
                yield Text.assemble("\n", (judge, "bold"), ("  not comparable with the other tables", "dim"))
            figures = Figures(rows).board
            for columns in _blocks(present(figures, rows), rows, options.max_width):
                yield ""
                yield _table(columns, rows, _id_width(rows, options.max_width))
            if groups_of_seeds := varied_seed_groups(rows):
                yield Text.assemble("\n", ("Over training seeds", "bold"))
                yield Text(OVER_SEEDS, style="dim")
                yield _seeds_table(groups_of_seeds, figures, options.max_width)
        if taxed := tax_notes(entries):
            yield Text.assemble("\n", (TITLE, "bold"))
            yield from (Text(_shown(note)) for note in taxed)
        if learnt := curve_lines(entries):
            yield Text.assemble("\n", ("Learning curves", "bold"))
            for line in learnt:
                yield Text(_shown(line), style="dim")
        yield from sweep_terminal(sweep_sections(entries), options.max_width)
        yield ""
        for entry in entries:
            for problem in training_problems(entry):
                yield Text(_shown(f"{entry.id}: {problem}"), style="yellow")
        for ids, doubt in doubts_of_rows(entries):
            yield Text(_shown(f"{ids}: {doubt}"), style="yellow")
        for note in unchecked_notes(entries):
            yield Text(_shown(note), style="yellow")
        for note in equivalent_notes(entries):
            yield Text(_shown(note))
        yield from (_panel(warning) for warning in warnings if not warning.is_loud)
        about_rows = (*budget_notes(entries), *margin_notes(entries))
        notes = (*answering_notes(entries), *about_rows, *reconstruction_notes(entries))
        explored = significant_differences(self.board)
        for note in (f"Below each figure: its 95 % CI. {UNPAIRED}", *explored, *notes):
            yield Text(_shown(note), style="dim")


def terminal_answer(board: Board) -> "RenderableType":
    """Only what the board says first: every comparison, and the primary figure of each row, or of a method over its
    training seeds. Small enough for a figure, however many rows the board has."""
    return _Answer(board)


class _Answer:
    """Laid out when it is drawn, like the whole board."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[RenderableType]":
        from rich.text import Text

        yield Text.assemble(("Leaderboard ", "dim"), (_shown(self.board.name), "bold"))
        found = answer(self.board.entries, most=len(self.board.entries) ** 2)
        if found is None:
            yield Text("No two of its rows can be compared.", style="yellow")
            return
        yield ""
        yield from answer_terminal(found, options.max_width)
        yield ""
        asked = found.primary
        yield _figure_table(self.board.entries, asked.figure, options.max_width)
        yield from sweep_terminal(sweep_of_figure(self.board.entries, asked.figure, asked.axis), options.max_width)


def _figure_table(entries: Sequence[Entry], figure: Figure, width: int) -> "Table":
    """One figure: of rows without training seeds, and of methods over theirs."""
    from rich.text import Text

    table = _plain_table(header_style="bold")
    table.add_column("row", max_width=max(8, width // 2), overflow="fold")
    table.add_column(_shown(f"{figure.group} {figure.short or figure.title} [95 % CI]"), justify="right", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    for entry in entries:
        metric = entry.metrics.get(figure.metric)
        if entry.provenance.training_seed is None and metric is not None:
            value = _cell(metric, figure, "").plain.split("\n")[0]
            interval = f" [{', '.join(bounds(metric.ci95, figure.decimals))}]" if metric.ci95 else ""
            table.add_row(Text(_shown(entry.id), style="bold"), value + interval, _counts(metric))
    for group in (group for rows in comparable(entries) for group in seed_groups(rows)):
        if spread := group.metrics.get(figure.metric):
            label = Text(_shown(group.label), style="bold")
            table.add_row(label, spread_figure(spread, figure), f"{spread.n} {'seed' if spread.n == 1 else 'seeds'}")
    return table


def _panel(warning: JudgeWarning) -> "Panel":
    """A warning about the judge in a frame: red, with a heavy line, where it is loud."""
    from rich.box import HEAVY, ROUNDED
    from rich.panel import Panel
    from rich.text import Text

    return Panel(
        Text(_shown(warning.text), style="bold" if warning.is_loud else ""),
        box=HEAVY if warning.is_loud else ROUNDED,
        title=warning.title.rstrip(".").upper() if warning.is_loud else warning.title.rstrip(".").lower(),
        title_align="left",
        border_style="bold red" if warning.is_loud else "yellow",
    )


def _blocks(columns: Sequence[Figure], rows: Sequence[Entry], width: int) -> list[list[Figure]]:
    """The columns, split into tables that fit the width. A group (AlpacaEval, MT-bench, ...) is split only when it is
    too wide for a table of its own."""
    available = width - _id_width(rows, width)
    blocks: list[list[Figure]] = [[]]
    for name in dict.fromkeys(column.group for column in columns):
        group = [column for column in columns if column.group == name]
        if blocks[-1] and _width([*blocks[-1], *group], rows) > available:
            blocks.append([])
        for column in group:
            if blocks[-1] and _width([*blocks[-1], column], rows) > available:
                blocks.append([])
            blocks[-1].append(column)
    return blocks


def _id_width(rows: Iterable[Entry], width: int) -> int:
    """Width of the id column: ids are folded only where they would take more than half the width."""
    from rich.cells import cell_len

    longest = max(cell_len(_shown(text)) for row in rows for text in (row.id, _loss(row)))
    return min(longest, max(8, width // 2))


def _width(columns: Sequence[Figure], rows: Sequence[Entry]) -> int:
    """Character cells that the columns take, including the gaps before them."""
    total = 0
    for i, column in enumerate(columns):
        first = i == 0 or columns[i - 1].group != column.group
        common = common_counts(column, rows)
        texts = [_head(column, rows, first), *(_cell(row.metrics.get(column.metric), column, common) for row in rows)]
        total += _GAP + max(line.cell_len for text in texts for line in text.split("\n"))
    return total


def _table(columns: Sequence[Figure], rows: Sequence[Entry], id_width: int) -> "Table":
    from rich.text import Text

    table = _plain_table(header_style="")
    table.add_column(Text("\nrow\n", style="bold"), width=id_width, overflow="fold")
    for i, column in enumerate(columns):
        first = i == 0 or columns[i - 1].group != column.group
        table.add_column(_head(column, rows, first), justify="right", no_wrap=True)
    for row in rows:
        cells = [_cell(row.metrics.get(c.metric), c, common_counts(c, rows)) for c in columns]
        table.add_row(Text.assemble((_shown(row.id), "bold"), "\n", (_shown(_loss(row)), "dim")), *cells)
    return table


def _plain_table(**options: Any) -> "Table":
    """An empty table with a line below its head and no other borders."""
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), **options)


def _loss(row: Entry) -> str:
    return "untrained" if row.method == "base" else row.method


def _head(column: Figure, rows: Sequence[Entry], first: bool) -> "Text":
    """Group (over its first column only), title, and the counts if all rows share them."""
    from rich.text import Text

    group, title = _shown(column.group) if first else "", _shown(column.short or column.title)
    head = Text.assemble((group, "cyan"), "\n", (title, "bold"), "\n")
    if common_counts(column, rows) is None:
        return head
    metrics = [row.metrics[column.metric] for row in rows if column.metric in row.metrics]
    return head.append(_counts(next(metric for metric in metrics if metric.value is not None)))


def _cell(metric: Metric | None, column: Figure, common: str | None) -> "Text":
    from rich.text import Text

    if metric is None or (metric.value is None and not metric.n and not metric.n_invalid):
        return Text("–", style="dim")
    if metric.value is None:
        reason = "not computable" if metric.n else "not scored"
        return Text.assemble((reason, "yellow"), "\n", _counts(metric))
    cell = Text(number(metric.value, column.decimals))
    if metric.ci95 is not None:
        low, high = bounds(metric.ci95, column.decimals)
        dash = " – " if "\N{MINUS SIGN}" in low + high else "–"
        cell.append(f"\n{low}{dash}{high}", style="dim")
    return cell if common else cell.append("\n").append(_counts(metric))


def _counts(metric: Metric) -> "Text":
    from rich.text import Text

    text = Text(f"n={metric.n}", style="dim")
    return text.append(f"\n{metric.n_invalid} invalid", style="yellow") if metric.n_invalid else text


def _seeds_table(groups: Sequence[SeedGroup], figures: Sequence[Figure], width: int) -> "Table":
    """One line per figure: narrow enough for any width."""
    from rich.text import Text

    table = _plain_table(header_style="bold")
    table.add_column("method", max_width=max(8, width // 3), overflow="fold")
    table.add_column("figure", overflow="fold")
    table.add_column("mean [95 % CI]", justify="right", no_wrap=True)
    table.add_column("seeds", justify="right", no_wrap=True)
    for group in groups:
        name = Text(_shown(group.label), style="bold")
        for column in figures:
            if spread := group.metrics.get(column.metric):
                table.add_row(
                    name,
                    _shown(f"{column.group} {column.short or column.title}"),
                    spread_figure(spread, column),
                    f"n={spread.n}",
                )
                name = Text("")
    return table
