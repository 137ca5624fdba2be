"""Charts of points and curves on two axes. Which is which a legend says: names on the plane would overlap."""

from collections.abc import Sequence
from typing import NamedTuple

from harness.report.page.looks import Look
from harness.report.page.scale import Scale, Tick, scale_of


class Series(NamedTuple):
    """A row's points (x, y), in order, and what is shown when they are pointed at. `joined`: a curve runs through
    them."""

    name: str
    look: Look
    points: tuple[tuple[float, float], ...]
    title: str
    joined: bool = False


class DrawnSeries(NamedTuple):
    """`marks`: the positions of its marks, in percent from the left and from the top. `curve`: the points of its curve
    on a plane of 100 by 100; empty for none."""

    look: Look
    title: str
    marks: tuple[tuple[str, str], ...]
    curve: str


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
    y = scale_of(point[1] for one in series for point in one.points)
    drawn = tuple(
        DrawnSeries(
            one.look,
            one.title,
            tuple((x.at(a), _down(y, b)) for a, b in (one.points[-1:] if one.joined else one.points)),
            " ".join(f"{x.at(a)},{_down(y, b)}" for a, b in one.points) if one.joined else "",
        )
        for one in series
    )
    y_ticks = tuple(Tick(f"{100 - float(tick.at):.2f}", tick.text) for tick in y.ticks())
    return Plane(title, note, across, up, x.ticks(), y_ticks, drawn, tuple(legend))


def _down(scale: Scale, value: float) -> str:
    """A value's place in percent from the top."""
    return f"{100 - float(scale.at(value)):.2f}"
