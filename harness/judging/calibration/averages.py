"""A figure of several systems as one, with what it says about a system that is not among them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.stats.hierarchy import interval_elsewhere, system_weights
from harness.stats.intervals import percentile_interval
from harness.types import Metric

if TYPE_CHECKING:
    import numpy as np


class CalibrationFigure(Metric):
    """A figure over `systems`. `ci95` is about a system that was not among them: the 95 % prediction interval for its
    figure; None where there are too few systems to tell (`harness.stats.hierarchy`). `here`: the 95 % interval of the
    mean over these systems on other instructions; `stderr` belongs to it."""

    systems: int = 0
    here: tuple[float, float] | None = None


class Column(NamedTuple):
    """A system's figure in the sample and in each resample, NaN where it has none. `verdicts`: how many it rests on, of
    the rarer kind if there are two."""

    values: "np.ndarray"
    verdicts: int

    @property
    def is_measured(self) -> bool:
        """Whether the sample gives it."""
        return bool(self.values[0] == self.values[0])

    def variance(self, width: float) -> float:
        """Of the figure, over instructions. `width`: the largest possible value less the smallest."""
        import numpy as np

        own = self.values[1:][~np.isnan(self.values[1:])]
        return (float(np.var(own)) if len(own) else 0.0) + self.unseen(width)

    def unseen(self, width: float) -> float:
        """The part of the variance that a bootstrap of few verdicts doesn't see: half a verdict more of each kind."""
        return 0.5 * (width / max(1, self.verdicts)) ** 2


def weights_of(columns: Sequence[Column]) -> list[float]:
    """How much each system counts in a mean over systems: alike, unless it has too few verdicts to be measured."""
    measured = [c for c in columns if c.is_measured]
    if not measured:
        return [1.0] * len(columns)
    values, variances = [float(c.values[0]) for c in measured], [c.variance(100.0) for c in measured]
    shares = iter(system_weights(values, variances, (0.0, 100.0)))
    return [next(shares) if c.is_measured else 0.0 for c in columns]


def over_systems(
    columns: Sequence[Column], limits: tuple[float, float], shares: Sequence[float] | None, n: int, n_invalid: int
) -> CalibrationFigure:
    """The mean over systems. `shares`: how much each counts; None: alike."""
    import numpy as np

    weighted = list(zip(columns, shares or [1.0] * len(columns), strict=True))
    measured = [(column, share) for column, share in weighted if column.is_measured]
    if not measured:
        return CalibrationFigure(value=None, n=n, n_invalid=n_invalid)
    table = np.stack([column.values for column, _ in measured])
    each = np.array([share for _, share in measured])[:, None] * ~np.isnan(table)
    means = (each * np.nan_to_num(table)).sum(axis=0) / np.where((total := each.sum(axis=0)) > 0, total, math.nan)
    value, systems = float(means[0]), len(measured)
    resampled = means[1:][~np.isnan(means[1:])]
    if len(resampled) < max(2, (table.shape[1] - 1) // 2):
        return CalibrationFigure(value=value, n=n, n_invalid=n_invalid, systems=systems)
    width = limits[1] - limits[0]
    variances = [column.variance(width) for column, _ in measured]
    unseen = 0.0
    if limits[0] == 0:  # a share, not a difference of two that are measured on the same verdicts
        unseen = sum(column.unseen(width) * share**2 for column, share in measured) / sum(s for _, s in measured) ** 2
    return CalibrationFigure(
        value=value,
        stderr=math.sqrt(float(resampled.var(ddof=1)) + unseen),
        ci95=interval_elsewhere(table[:, 0].tolist(), variances, limits),
        n=n,
        n_invalid=n_invalid,
        systems=systems,
        here=_widened(value, percentile_interval(resampled), unseen, limits),
    )


def _widened(
    value: float, ends: tuple[float, float], unseen: float, limits: tuple[float, float]
) -> tuple[float, float]:
    """A bootstrap's interval with the variance that its verdicts are too few to show: each end is as much farther
    away."""
    below, above = (
        math.hypot(max(0.0, reach), 1.96 * math.sqrt(unseen)) for reach in (value - ends[0], ends[1] - value)
    )
    return max(limits[0], min(value - below, ends[0])), min(limits[1], max(value + above, ends[1]))
