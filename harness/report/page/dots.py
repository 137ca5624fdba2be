"""Charts of dots with intervals: a line per row, one or several panels, each with an axis of its own.

Positions are percentages, so that a chart is as wide as its place and its type has one size everywhere. Names are text
of the page, not of the drawing: they wrap, and never overlap.
"""

from collections.abc import Sequence
from typing import NamedTuple

from harness.boards.format import missing
from harness.figures import Figure
from harness.report.page.looks import Look, short
from harness.report.page.scale import Scale, Tick, scale_of
from harness.report.page.words import figure_text, interval_text
from harness.types import Metric

ROOM = 20
"""Characters of all the numbers below a single panel, with a gap after each."""
MANY = 9
"""Lines from which a chart is drawn more closely."""


class Point(NamedTuple):
    """A value to draw. `title`: what is shown when it is pointed at. `is_sure`: its mark is filled. `parts`: values
    that it is the mean of, each with its title."""

    value: float
    interval: tuple[float, float] | None
    title: str
    is_sure: bool = True
    parts: tuple[tuple[float, str], ...] = ()


class Panel(NamedTuple):
    """An axis to draw values on. `reference`: where a line stands. `signs`: its numbers have signs."""

    title: str
    reference: float | None = None
    limits: tuple[float, float] | None = None
    signs: bool = False


class Line(NamedTuple):
    """A line of a chart: its name, its look, a value or None for each panel, and their text."""

    name: str
    look: Look
    points: tuple[Point | None, ...]
    text: str = ""


class Placed(NamedTuple):
    """A point on its panel; positions in percent. `low` and `high` are empty where there is no interval."""

    at: str
    low: str
    high: str
    title: str
    is_sure: bool
    parts: tuple[tuple[str, str], ...]


class DrawnPanel(NamedTuple):
    """A panel's heading, ticks, and where its line stands (empty: nowhere)."""

    title: str
    ticks: tuple[Tick, ...]
    reference: str


class DrawnLine(NamedTuple):
    """A line with its points placed. `short`: its name where there is little room."""

    name: str
    short: str
    look: Look
    points: tuple[Placed | None, ...]
    text: str


class Dots(NamedTuple):
    """A chart as the template draws it. `note`: a sentence below its title."""

    title: str
    note: str
    panels: tuple[DrawnPanel, ...]
    lines: tuple[DrawnLine, ...]

    @property
    def kind(self) -> str:
        """Which of the templates' macros draws it."""
        return "dots"

    @property
    def is_wide(self) -> bool:
        """Whether it needs the page's whole width."""
        return len(self.panels) > 2

    @property
    def is_close(self) -> bool:
        """Whether its lines are drawn closely."""
        return len(self.lines) >= MANY


def _ticks(scale: Scale, signs: bool, panels: int) -> tuple[Tick, ...]:
    """As many as have room side by side; beside a column of figures even a single panel is narrow."""
    many = scale.ticks(5, signs)
    return many if panels == 1 and sum(len(tick.text) + 1 for tick in many) <= ROOM else scale.ticks(3, signs)


def dots(title: str, panels: Sequence[Panel], lines: Sequence[Line], note: str = "", shared: bool = False) -> Dots:
    """Draw lines on panels. `shared`: all panels have one axis."""
    columns = [[line.points[i] for line in lines] for i in range(len(panels))]
    if shared:
        scales = [_scale(panels[0], [point for column in columns for point in column])] * len(panels)
    else:
        scales = [_scale(panel, column) for panel, column in zip(panels, columns, strict=True)]
    drawn = tuple(
        DrawnPanel(
            panel.title,
            _ticks(scale, panel.signs, len(panels)),
            "" if panel.reference is None else scale.at(panel.reference),
        )
        for panel, scale in zip(panels, scales, strict=True)
    )
    placed = tuple(
        DrawnLine(
            line.name,
            short(line.name),
            line.look,
            tuple(_placed(point, scale) for point, scale in zip(line.points, scales, strict=True)),
            line.text,
        )
        for line in lines
    )
    return Dots(title, note, drawn, placed)


def _scale(panel: Panel, points: Sequence[Point | None]) -> Scale:
    ends = [] if panel.reference is None else [panel.reference]
    for point in points:
        if point is not None:
            ends += [point.value, *(point.interval or ()), *(value for value, _ in point.parts)]
    return scale_of(ends, panel.limits)


def _placed(point: Point | None, scale: Scale) -> Placed | None:
    if point is None:
        return None
    low, high = ("", "") if point.interval is None else map(scale.at, point.interval)
    parts = tuple((scale.at(value), title) for value, title in point.parts)
    return Placed(scale.at(point.value), low, high, point.title, point.is_sure, parts)


def metric_point(name: str, metric: Metric | None, figure: Figure) -> Point | None:
    """A row's figure as a point; None where it has no value."""
    if metric is None or metric.value is None:
        return None
    return Point(metric.value, metric.ci95, f"{name}: {metric_text(metric, figure)}, n {metric.n:,}")


def metric_text(metric: Metric | None, figure: Figure) -> str:
    """`53.1 (48.0 to 58.2)`; why there is no value where there is none."""
    if metric is None or metric.value is None:
        return "–" if metric is None else missing(metric)
    value = figure_text(metric.value, figure.decimals)
    return value if metric.ci95 is None else f"{value} ({interval_text(metric.ci95, figure.decimals)})"


def figure_panel(figure: Figure, title: str | None = None) -> Panel:
    """A figure's axis, with a line at 50 for a share of wins: as good as the reference."""
    return Panel(figure.head if title is None else title, even(figure), figure.limits)


def even(figure: Figure) -> float | None:
    """The value at which neither side of a comparison wins; None for a figure that is no share of wins."""
    wins = (
        figure.unit == "%"
        and figure.limits == (0.0, 100.0)
        and figure.pairing is not None
        and figure.place != "details"
    )
    return 50.0 if wins else None
