"""Axes: where a value lies between the ends of an axis, in percent of its length, and round numbers for its ticks."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from harness.report.page.words import difference_text, figure_text

MARGIN = 0.05
"""Empty part of the axis beyond the outermost value, at either end."""
NEAR = 8
"""Percent of the axis within which a number stands near its end."""


class Tick(NamedTuple):
    """A round number on an axis: where it lies, in percent, its text, and which part of the text stands there: its
    middle, or near an end of the axis its start or end, so that it does not reach into the next panel."""

    at: str
    text: str
    anchor: str = "middle"


class Scale(NamedTuple):
    """An axis from `low` to `high`."""

    low: float
    high: float

    def at(self, value: float) -> str:
        """Where a value lies, in percent of the axis."""
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}"

    def ticks(self, most: int = 5, signs: bool = False) -> tuple[Tick, ...]:
        """From two to `most` (at least three) round numbers on the axis, a step of 1, 2 or 5 times a power of ten
        apart, or two such steps. `signs`: positive ones have a plus sign."""
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        steps = [factor * power for factor in (1, 2, 5, 10, 20)]
        place = next(i for i, step in enumerate(steps) if len(self._steps(step)) <= most)
        step, chosen = steps[place], list(self._steps(steps[place]))
        if len(chosen) < 2:  # a single number is no axis
            step = steps[place - 1]
            chosen = list(self._steps(step))[::2]
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        write = difference_text if signs else figure_text
        return tuple(_tick(self.at(i * step), write(i * step, decimals)) for i in chosen)

    def _steps(self, step: float) -> range:
        """The multiples of a step that lie on the axis."""
        return range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)


def _tick(at: str, text: str) -> Tick:
    near = float(at)
    return Tick(at, text, "start" if near < NEAR else "end" if near > 100 - NEAR else "middle")


def scale_of(values: Iterable[float], limits: tuple[float, float] | None = None) -> Scale:
    """An axis on which all values lie, with a margin, but not beyond `limits`, the smallest and largest possible."""
    known = list(values)
    first, last = (min(known), max(known)) if known else (0.0, 1.0)
    span = last - first
    if span <= 1e-9 * max(abs(first), abs(last)):
        span = abs(first) or 1.0
    low, high = first - MARGIN * span, last + MARGIN * span
    if limits is not None:
        low, high = max(low, min(limits[0], first)), min(high, max(limits[1], last))
    return Scale(low, high)
