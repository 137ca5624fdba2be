"""A baseline's promotions: the gated figure of each with its interval, and the anchor that rows may not drift from."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.boards.catalog import Figures
from harness.boards.format import bounds, number, visible
from harness.errors import DataError, nearest, quoted
from harness.figures import Figure
from harness.gate.record import Baseline, Promotion, main_figures, main_intervals, open_baseline
from harness.printable import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table

NARROWEST, WIDEST = 12, 60
"""Character cells of the drawing."""
HEADS = ("promoted", "row", "commit", "by", "value", "95 % CI")
SHORT = ("promoted", "row", "value", "95 % CI")
"""Columns of a terminal that has no room for more."""


class Point(NamedTuple):
    """A promotion with its `value` and `ci95`, in the figure's own unit; None where they were not recorded."""

    promotion: Promotion
    value: float | None
    ci95: tuple[float, float] | None


class History(NamedTuple):
    """The promotions of a baseline by one figure, oldest first."""

    board: str
    figure: Figure
    points: tuple[Point, ...]

    def record(self) -> dict[str, object]:
        """For programs."""
        rows = [
            {
                **point.promotion.model_dump(mode="json", exclude={"figures", "intervals"}),
                "value": point.value,
                "ci95": point.ci95,
            }
            for point in self.points
        ]
        return {"board": self.board, "metric": self.figure.metric, "promotions": rows}


def read_history(path: Path, metric: str | None = None) -> History:
    """The history of a baseline's file. `metric`: by default AlpacaEval's win rate, else the first figure that the
    baseline's row has. Raises DataError for another file, and for a figure that no promotion has."""
    found = open_baseline(path)
    promotions = found.promotions
    figures = Figures([found.entry, *([found.anchor] if found.anchor else [])])
    recorded = [m for p in promotions for m in p.figures]
    named = list(dict.fromkeys([*main_figures(found.entry), *recorded]))
    if not named:
        raise DataError(f"{path}: row {quoted(found.entry.id)} has no figure by which rows are compared")
    wanted = metric or ("alpaca_eval.win_rate" if "alpaca_eval.win_rate" in named else named[0])
    figure = figures.get(wanted)
    if wanted not in named or figure is None:
        raise DataError(f"{path}: no promotion has {quoted(wanted)}; {nearest(wanted, named)}")
    points = [_point(promotion, figure, found) for promotion in promotions]
    return History(found.board, figure, tuple(points))


def _point(promotion: Promotion, figure: Figure, baseline: Baseline) -> Point:
    """What a file of an earlier version lacks is taken from its two rows, the baseline's and the anchor's."""
    value, ci95 = promotion.figures.get(figure.metric), promotion.intervals.get(figure.metric)
    for entry in (baseline.entry, baseline.anchor):
        if (
            ci95 is None
            and entry is not None
            and entry.id == promotion.row
            and main_figures(entry) == promotion.figures
        ):
            ci95 = main_intervals(entry).get(figure.metric)
    return Point(promotion, value, ci95)


class DrawnHistory:
    """A history for a terminal of any width: a line for each promotion, `●` at its figure, `│` at the anchor's."""

    def __init__(self, history: History) -> None:
        self.history = history

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[RenderableType]":
        from rich.text import Text

        points, figure = self.history.points, self.history.figure
        unit = f", {figure.unit}" if figure.unit else ""
        title = f"{figure.metric}{unit}, {len(points):,} promotion{'' if len(points) == 1 else 's'}"
        yield Text.assemble((_shown(self.history.board), "bold"), "  ", (_shown(title), "dim"))
        notes = []
        for heads in (HEADS, SHORT):
            left = options.max_width - console.measure(self._table(heads)).maximum - 2
            if left >= NARROWEST:
                yield self._table(heads, list(drawn(points, min(WIDEST, left))))
                notes.append("● the figure with its 95 % CI; │ the anchor's, which later rows may not drift from.")
                break
        else:
            yield self._table(SHORT)
        for point in points:
            for text in point.promotion.allowed:
                yield Text(_shown(f"{point.promotion.at[:10]} {point.promotion.row}: allowed: {text}"), style="yellow")
        if any(point.promotion.anchor for point in points[1:]):
            notes.append("Figures before a new anchor may be of another judge or other prompts.")
        notes.append("Intervals say nothing about differences: promotions are tested prompt by prompt, by the gate.")
        yield from (Text(note, style="dim") for note in notes)

    def _table(self, heads: Sequence[str], lines: Sequence[str] | None = None) -> "Table":
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        for head in (*heads, *([""] if lines is not None else [])):
            folds = head in ("row", "by")
            table.add_column(
                head,
                justify="right" if head in ("value", "95 % CI") else "left",
                no_wrap=not folds,
                overflow="fold" if folds else "crop",
            )
        decimals = self.history.figure.decimals
        for place, (promotion, value, ci95) in enumerate(self.history.points):
            cells = {
                "promoted": promotion.at[:10],
                "row": promotion.row + (" (anchor)" if promotion.anchor else ""),
                "commit": (promotion.commit or "–")[:7],
                "by": promotion.by,
                "value": "–" if value is None else number(value, decimals),
                "95 % CI": "–" if ci95 is None else " to ".join(bounds(ci95, decimals)),
            }
            table.add_row(*(_shown(cells[head]) for head in heads), *([lines[place]] if lines is not None else []))
        return table


def drawn(points: Sequence[Point], width: int) -> Iterator[str]:
    """A line of `width` characters for each promotion, all on one scale; blank where no figure was recorded."""
    ends = [x for point in points for x in (point.value, *(point.ci95 or ())) if x is not None]
    low, high = min(ends, default=0.0), max(ends, default=0.0)

    def place(x: float) -> int:
        return int((x - low) / (high - low) * (width - 1) + 0.5) if high > low else width // 2

    anchor: float | None = None
    for promotion, value, ci95 in points:
        anchor = value if promotion.anchor else anchor
        first, last = (place(x) for x in ci95) if ci95 else (1, 0)
        cells = ["─" if first <= i <= last else " " for i in range(width)]
        if anchor is not None:
            cells[place(anchor)] = "│"
        if value is not None:
            cells[place(value)] = "●"
        yield "".join(cells)


def _shown(text: str) -> str:
    """A text on one line: a baseline may be a stranger's."""
    return printable(visible(text))
