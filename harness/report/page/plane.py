"""Charts of points and curves on two axes. Which is which a legend says: names on the plane would overlap."""

from collections.abc import Sequence
from typing import NamedTuple

from harness.report.page.looks import Look
from harness.report.page.scale import Scale, Tick, scale_of


class Series(NamedTuple):
    """A row's points (x, y), in order, and what is shown when they are pointed at. `joined`: a curve runs through
    them. `intervals`: of y, one a point, for points that are all marked; None where there is none."""

    name: str
    look: Look
    points: tuple[tuple[float, float], ...]
    title: str
    joined: bool = False
    intervals: tuple[tuple[float, float] | None, ...] = ()


class DrawnSeries(NamedTuple):
    """`marks`: the positions of its marks, in percent from the left and from the top. `curve`: the points of its curve
    on a plane of 100 by 100; empty for none. `intervals`: (from the left, top, bottom) in percent."""

    look: Look
    title: str
    marks: tuple[tuple[str, str], ...]
    curve: str
    intervals: tuple[tuple[str, str, str], ...]


class Plane(NamedTuple):
    """A chart as the template draws it. `legend`: (name, look)."""

    title: str
    note: str
    across: str
    up: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    series: tuple[DrawnSeries, ...]
    legend: tuple[tuple[str, Look], ...]

    @property
    def kind(self) -> str:
        """Which of the templates' macros draws it."""
        return "plane"

    @property
    def is_wide(self) -> bool:
        """Whether it needs the page's whole width."""
        return False


def plane(
    title: str,
    across: str,
    up: str,
    series: Sequence[Series],
    legend: Sequence[tuple[str, Look]],
    note: str = "",
) -> Plane:
    """Draw series of points. `across`, `up`: the names of the axes."""
    x = scale_of(point[0] for one in series for point in one.points)
    ends = [end for one in series for interval in one.intervals if interval for end in interval]
    y = scale_of([*(point[1] for one in series for point in one.points), *ends])
    drawn = tuple(
        DrawnSeries(
            one.look,
            one.title,
            tuple((x.at(a), _down(y, b)) for a, b in _marked(one)),
            " ".join(f"{x.at(a)},{_down(y, b)}" for a, b in one.points) if one.joined else "",
            tuple(
                (x.at(point[0]), _down(y, interval[1]), _down(y, interval[0]))
                for point, interval in zip(one.points, one.intervals, strict=False)
                if interval is not None
            ),
        )
        for one in series
    )
    y_ticks = tuple(Tick(f"{100 - float(tick.at):.2f}", tick.text) for tick in y.ticks())
    return Plane(title, note, across, up, x.ticks(), y_ticks, drawn, tuple(legend))


def _marked(series: Series) -> tuple[tuple[float, float], ...]:
    """Of a curve without intervals only the last point has a mark."""
    return series.points[-1:] if series.joined and not series.intervals else series.points


def _down(scale: Scale, value: float) -> str:
    """A value's place in percent from the top."""
    return f"{100 - float(scale.at(value)):.2f}"
