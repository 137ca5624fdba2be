"""The win rate that the official judge would give, predicted from another judge's: for when the official one is gone.

The recorded systems have both rates. A line through them, on the log-odds scale, predicts a new system's official rate
with Student's t prediction interval, which is as wide as a few systems make it. It is checked by leaving each recorded
system out: `held` counts those whose official rate lay in the interval that the others gave.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.stats.hierarchy import FEWEST_POINTS, line
from harness.types import Metric

FLOOR = 0.01
"""Added to the residuals' variance, in squared log-odds: few systems may lie on a line by chance. With it, leaving out
one of six recorded systems of 25 made-up judges held in 99 % (at worst 94 % for one judge); without, at worst 92 %."""
LEAST = 0.005
"""The smallest share whose log-odds are taken."""


class Rates(NamedTuple):
    """A recorded system's win rates in percent: by the official judge and by the calibrated one."""

    official: float
    judge: float


class Equivalent(NamedTuple):
    """A predicted official win rate in percent, with its 95 % prediction interval. `systems`: how many it rests on;
    `held`: how many of them, each left out, lay in their interval."""

    value: float
    ci95: tuple[float, float]
    systems: int
    held: int

    def plain(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {"value": self.value, "ci95": list(self.ci95), "systems": self.systems, "held": self.held}


def official_equivalent(systems: Sequence[Rates], rate: Metric) -> Equivalent | None:
    """The official win rate of a row with this win rate by the calibrated judge. None with fewer than FEWEST_POINTS
    systems, where this judge gives all of them the same rate, or where the row's rate has no error."""
    if len(systems) < FEWEST_POINTS or rate.value is None or rate.stderr is None:
        return None
    found = predicted(systems, rate.value, rate.stderr)
    if found is None:
        return None
    held = 0
    for i, system in enumerate(systems):
        without = predicted([*systems[:i], *systems[i + 1 :]], system.judge, 0.0)
        held += without is not None and without[1] <= system.official <= without[2]
    return Equivalent(found[0], (found[1], found[2]), len(systems), held)


def predicted(systems: Sequence[Rates], rate: float, stderr: float) -> tuple[float, float, float] | None:
    """(official rate, the ends of its interval) in percent, for a rate by the calibrated judge and its error."""
    fitted = line([_log_odds(s.judge) for s in systems], [_log_odds(s.official) for s in systems])
    if fitted is None:
        return None
    share = _inside(rate)
    ends = fitted.predicted(_log_odds(rate), (stderr / 100 / (share * (1 - share))) ** 2, FLOOR)
    value, low, high = (100 / (1 + math.exp(-max(-700.0, min(700.0, x)))) for x in ends)
    return value, low, high


def _inside(percent: float) -> float:
    return min(1 - LEAST, max(LEAST, percent / 100))


def _log_odds(percent: float) -> float:
    share = _inside(percent)
    return math.log(share / (1 - share))
