"""Confidence bounds for the mean of a bounded quantity over prompts: one method for interval, p value and gate.

With many prompts they are Student's t bounds. With few, or where few prompts differ, those fail: a sample without the
one loss in fifty has no variance at all. So two prompts that nobody has seen take part, one at each end of what a value
can be (Bonett & Price 2012 for paired proportions; Agresti & Caffo 2000), and a bound is moved by the skewness of the
values together with the unseen one on its side (Cornish-Fisher, as in Johnson 1978). For rare events the bounds are
then those of the exact Poisson distribution, and for pairs the p values those of McNemar's exact test, both to about a
tenth of an event; `tests/stats/test_bounds.py` compares them.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from harness.stats.student import quantile, upper_tail

UNSEEN = 2
"""Prompts that nobody has seen, one at each end."""
SKEWED = 4 / 3
"""Makes the bounds for no event out of n the exact ones: Cornish-Fisher's expansion has 2 or -1 here, for a skewness
that is known or estimated."""
FEWEST = 6
"""Prompts below which no sign test could tell anything at the 5 % level: 2 · 2⁻⁵ > 0.05."""


class Mean(NamedTuple):
    """A mean over prompts with what its bounds need. `stderr`: its standard error as estimated from the n prompts.
    `third`: its third central moment, Σ (x - mean)³ / n³. `reach`: how far from `centre` a prompt's value can lie.
    `degrees`: of freedom of the standard error."""

    value: float
    stderr: float
    n: int
    third: float
    reach: float
    degrees: int
    centre: float = 0.0

    @property
    def with_unseen(self) -> float:
        """The mean with the unseen prompts."""
        return (self.n * self.value + UNSEEN * self.centre) / (self.n + UNSEEN)

    @property
    def stderr_with_unseen(self) -> float:
        """Its standard error."""
        n, away = self.n, self.value - self.centre
        squares = self.squares + UNSEEN * (self.reach**2 + n * away**2 / (n + UNSEEN))
        return math.sqrt(squares / ((n + UNSEEN - 1) * (n + UNSEEN)))

    @property
    def squares(self) -> float:
        """The sum of squares that the standard error stands for."""
        return self.stderr**2 * self.n * (self.n - 1)

    def skew(self, side: int, about: float) -> float:
        """How far the bound on a side (-1: lower, 1: upper) lies beyond Student's per unit of (q² + 4/3) / 3, at least
        0: the third moment over the second, both about where the bound is and with the unseen prompt on that side."""
        n, away = self.n, self.value - about
        squares = self.squares + UNSEEN * (self.reach**2 + (about - self.centre) ** 2)
        cubes = side * (self.third * n**3 + 3 * away * self.squares + n * away**3)
        unseen = (self.reach + side * (self.centre - about)) ** 3
        return max(0.0, cubes + unseen) / squares / n if squares > 0 else 0.0

    def bound(self, tail: float, side: int) -> float:
        """The lower (side -1) or upper (side 1) confidence bound that the truth lies beyond with probability `tail`."""
        q = quantile(1 - tail, self.degrees)
        students = self.with_unseen + side * q * self.stderr_with_unseen
        return settled(lambda at: students + side * (q * q + SKEWED) / 3 * self.skew(side, at), students)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The two-sided confidence interval."""
        return self.bound((1 - level) / 2, -1), self.bound((1 - level) / 2, 1)

    def p_beyond(self, null: float, side: int) -> float:
        """The one-sided p value of the truth lying at `null` or beyond, on that side of it (-1: at most `null`): the
        tail at which the bound on that side is `null`."""
        gap = side * (null - self.with_unseen)
        stderr, skew = self.stderr_with_unseen, self.skew(side, null)
        if stderr == 0:
            return 0.0 if gap > 0 else 1.0
        rest = gap - SKEWED / 3 * skew
        if rest <= 0:
            return upper_tail(rest / stderr, self.degrees)
        # The positive root of skew q² / 3 + stderr q - rest, in the form that loses no digits where skew is all but 0.
        return upper_tail(2 * rest / (math.sqrt(stderr**2 + 4 / 3 * skew * rest) + stderr), self.degrees)

    def p_value(self, null: float = 0.0) -> float:
        """The two-sided p value: below 0.05 exactly where the 95 % interval leaves out `null`."""
        return min(1.0, 2 * min(self.p_beyond(null, -1), self.p_beyond(null, 1)))

    @property
    def seeds(self) -> int:
        """One: the mean is about two checkpoints, and says nothing about what trained them."""
        return 1


def settled(step: Callable[[float], float], start: float) -> float:
    """The fixed point of a function that changes slowly, from `start` on."""
    at = start
    for _ in range(100):
        before, at = at, step(at)
        if abs(at - before) <= 1e-12 * max(1.0, abs(at)):
            break
    return at


def mean_of(
    values: Sequence[float],
    reach: float | None,
    centre: float = 0.0,
    strata: Sequence[object] | None = None,
) -> Mean:
    """The mean of one value per prompt. `reach`: None where values have no bounds; the largest one then stands for it.
    `strata`: each prompt's stratum, such as its category; a fixed number of prompts comes from each, so that only the
    variance within them counts. Raises ValueError for fewer than two prompts."""
    n = len(values)
    if n < 2:
        raise ValueError(f"{n} prompts are too few for an interval")
    mean = math.fsum(values) / n
    away = reach if reach is not None else max(abs(x - centre) for x in values)
    groups = _strata(values, strata)
    squares = math.fsum(_inflated(group) for group in groups)
    third = math.fsum((x - mean) ** 3 for x in values) / n**3
    return Mean(mean, math.sqrt(squares) / n, n, third, away, n - len(groups), centre)


def _strata(values: Sequence[float], strata: Sequence[object] | None) -> list[list[float]]:
    """The values by stratum; strata of one prompt are put together, and with the smallest of the others if need be."""
    if strata is None:
        return [list(values)]
    by_stratum: dict[object, list[float]] = {}
    for value, stratum in zip(values, strata, strict=True):
        by_stratum.setdefault(stratum, []).append(value)
    large = sorted((group for group in by_stratum.values() if len(group) > 1), key=len)
    single = [x for group in by_stratum.values() if len(group) == 1 for x in group]
    if len(single) == 1 and large:
        return [large[0] + single, *large[1:]]
    return [*large, *([single] if single else [])]


def _inflated(group: Sequence[float]) -> float:
    """n_h s_h²: what a stratum adds to n² times the variance of the mean."""
    n, mean = len(group), math.fsum(group) / len(group)
    return n / (n - 1) * math.fsum((x - mean) ** 2 for x in group)
