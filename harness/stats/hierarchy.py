"""What figures of a few systems say about a system that was not among them. Pure functions.

A figure of system i has a true value θ_i, which was measured as y_i with a known variance v_i. The θ_i are draws from a
normal distribution whose mean and standard deviation τ are unknown, with flat priors; the interval for a new θ is the
posterior predictive one (Gelman et al., Bayesian Data Analysis, section 5.4). With v_i = 0 it is Student's t interval
for a new value with two degrees of freedom fewer than there are systems, so it is wide where these are few.

A regression of one figure on another has Student's t prediction interval with as many degrees of freedom.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.stats.student import quantile

if TYPE_CHECKING:
    import numpy as np

FEWEST_SYSTEMS = 4
"""Systems from which anything is said about others."""
FEWEST_POINTS = 5
"""Systems from which a line through their figures is used."""
_STEPS = 200
_TAIL = 0.025


def interval_elsewhere(
    values: Sequence[float], variances: Sequence[float], limits: tuple[float, float]
) -> tuple[float, float] | None:
    """The 95 % prediction interval for the true value of a new system; None with fewer than FEWEST_SYSTEMS values.
    `limits`: the smallest and largest possible value; τ is at most half their distance."""
    if len(values) < FEWEST_SYSTEMS:
        return None
    fitted = _fitted(values, variances, limits)
    deviations = (fitted.variance + fitted.spreads**2) ** 0.5
    low, high = (_quantile(p, fitted.posterior, fitted.means, deviations, limits) for p in (_TAIL, 1 - _TAIL))
    return low, high


def system_weights(values: Sequence[float], variances: Sequence[float], limits: tuple[float, float]) -> list[float]:
    """How much each system counts in the mean of all, which sums to 1: alike, unless some were measured so badly that
    this is more than systems differ by."""
    fitted = _fitted(values, variances, limits)
    weights: list[float] = (fitted.posterior @ (fitted.weights * fitted.variance[:, None])).tolist()
    return weights


class _Fitted(NamedTuple):
    """At each possible τ: its posterior probability, the systems' weights, and mean and variance of the mean of all."""

    spreads: "np.ndarray"
    posterior: "np.ndarray"
    weights: "np.ndarray"
    means: "np.ndarray"
    variance: "np.ndarray"


def _fitted(values: Sequence[float], variances: Sequence[float], limits: tuple[float, float]) -> _Fitted:
    import numpy as np

    y, v = np.array(values, dtype=float), np.array(variances, dtype=float)
    spreads = (np.arange(_STEPS) + 0.5) / _STEPS * (limits[1] - limits[0]) / 2
    weights = 1 / (v + spreads[:, None] ** 2)
    variance = 1 / weights.sum(axis=1)
    means = (weights * y).sum(axis=1) * variance
    misfit = (weights * (y - means[:, None]) ** 2).sum(axis=1)
    log_posterior = 0.5 * (np.log(weights).sum(axis=1) + np.log(variance) - misfit)
    posterior = np.exp(log_posterior - log_posterior.max())
    return _Fitted(spreads, posterior / posterior.sum(), weights, means, variance)


def _quantile(
    p: float, weights: "np.ndarray", means: "np.ndarray", deviations: "np.ndarray", limits: tuple[float, float]
) -> float:
    """A quantile of a mixture of normal distributions, at most a limit: by bisection."""
    parts = list(zip(weights.tolist(), means.tolist(), deviations.tolist(), strict=True))

    def below(x: float) -> float:
        return math.fsum(w * math.erfc((m - x) / (d * math.sqrt(2))) / 2 for w, m, d in parts)

    low, high = limits
    if below(low) >= p:
        return low
    if below(high) <= p:
        return high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < p else (low, middle)
    return (low + high) / 2


class Line(NamedTuple):
    """A least-squares line through n points. `spread`: the residuals' variance, with n - 2 degrees of freedom. `centre`
    and `squares`: the mean of x and its sum of squared deviations."""

    n: int
    intercept: float
    slope: float
    spread: float
    centre: float
    squares: float

    @property
    def slope_interval(self) -> tuple[float, float]:
        """Student's 95 % confidence interval of the slope."""
        reach = quantile(1 - _TAIL, self.n - 2) * math.sqrt(self.spread / self.squares)
        return self.slope - reach, self.slope + reach

    def predicted(self, x: float, variance: float = 0.0, floor: float = 0.0) -> tuple[float, float, float]:
        """(y at x, the ends of the 95 % prediction interval for a new point there). `variance`: of x itself. `floor`:
        added to the residuals' variance, since a few points may lie on a line by chance."""
        leverage = 1 + 1 / self.n + (x - self.centre) ** 2 / self.squares
        reach = quantile(1 - _TAIL, self.n - 2) * math.sqrt((self.spread + floor) * leverage + self.slope**2 * variance)
        y = self.intercept + self.slope * x
        return y, y - reach, y + reach


def line(x: Sequence[float], y: Sequence[float]) -> Line | None:
    """The least-squares line of y on x; None with fewer than three points, or where all x are the same."""
    n = len(x)
    if n < 3 or min(x) == max(x):
        return None
    centre, middle = math.fsum(x) / n, math.fsum(y) / n
    squares = math.fsum((a - centre) ** 2 for a in x)
    slope = math.fsum((a - centre) * (b - middle) for a, b in zip(x, y, strict=True)) / squares
    intercept = middle - slope * centre
    residuals = math.fsum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    return Line(n, intercept, slope, residuals / (n - 2), centre, squares)
