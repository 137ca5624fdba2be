"""Whether an interval drawn at random by a bootstrap can come from given values: what a reader of figures checks
without drawing again, which would take numpy.

A drawn figure varies with the random numbers. The checks allow REACH standard deviations of that, and what the
expansions that stand in for the exact distributions miss.
"""

import math
from collections.abc import Hashable, Sequence
from itertools import combinations_with_replacement, pairwise
from statistics import NormalDist

from harness.stats.intervals import RESAMPLES, merged

REACH = 4.5
FEW_PROMPTS = 6
"""Prompts up to which all resamples are listed (462)."""
_NORMAL = NormalDist()
_TAIL = 0.025
_TAIL_REACH = REACH * math.sqrt(_TAIL * (1 - _TAIL) / RESAMPLES)
_TAILS = (_TAIL - _TAIL_REACH, _TAIL + _TAIL_REACH)
"""The tail probabilities between which the 2.5th percentile of RESAMPLES draws lies."""

Prompts = Sequence[tuple[float, int]]
"""(sum of the values, number of values) of each prompt."""
Range = tuple[float, float]


def bootstrap_ends(prompts: Prompts, strata: Sequence[Hashable] | None = None) -> tuple[Range, Range]:
    """The ranges within which the lower and the upper end of a percentile-bootstrap interval of the mean lie; whole
    prompts are resampled, if they have `strata` within these."""
    if len(prompts) <= FEW_PROMPTS and strata is None:
        return _listed_ends(prompts)
    total = sum(count for _, count in prompts)
    mean = math.fsum(value for value, _ in prompts) / total
    squares, cubes = _moments([value - count * mean for value, count in prompts], strata)
    means = sorted(value / count for value, count in prompts)
    if squares <= (1e-12 * max(1.0, abs(mean)) * total) ** 2:
        return (mean, mean), (mean, mean)
    spread = math.sqrt(squares) / total
    skewness = cubes / squares**1.5
    step = max(high - low for low, high in pairwise(means)) / len(means)
    slack = 0.08 * spread + step

    def end(tail: float) -> float:
        z = _NORMAL.inv_cdf(tail)
        return float(mean + spread * (z + skewness / 6 * (z * z - 1)))  # Cornish-Fisher

    def clipped(low: float, high: float) -> Range:
        return max(means[0], min(low, high) - slack), min(means[-1], max(low, high) + slack)

    return clipped(end(_TAILS[0]), end(_TAILS[1])), clipped(end(1 - _TAILS[1]), end(1 - _TAILS[0]))


def _moments(residuals: Sequence[float], strata: Sequence[Hashable] | None) -> tuple[float, float]:
    """The second and third central moments of a resample's sum. Within strata of n prompts n - 1 are drawn, each with
    the weight n / (n - 1)."""
    if strata is None:
        return math.fsum(r * r for r in residuals), math.fsum(r**3 for r in residuals)
    by_stratum: dict[Hashable, list[float]] = {}
    for residual, stratum in zip(residuals, merged(strata), strict=True):
        by_stratum.setdefault(stratum, []).append(residual)
    squares = cubes = 0.0
    for group in by_stratum.values():
        weight, middle = len(group) / (len(group) - 1), math.fsum(group) / len(group)
        squares += weight * math.fsum((r - middle) ** 2 for r in group)
        cubes += weight**2 * math.fsum((r - middle) ** 3 for r in group)
    return squares, cubes


def _listed_ends(prompts: Prompts) -> tuple[Range, Range]:
    """`bootstrap_ends` from the list of all resamples with their probabilities."""
    means, n = [], len(prompts)
    for chosen in combinations_with_replacement(range(n), n):
        ways = math.factorial(n)
        for i in set(chosen):
            ways //= math.factorial(chosen.count(i))
        mean = sum(prompts[i][0] for i in chosen) / sum(prompts[i][1] for i in chosen)
        means.append((mean, ways / n**n))
    means.sort()

    def at(tail: float) -> float:
        reached = 0.0
        for mean, probability in means:
            reached += probability
            if reached >= tail - 1e-12:
                return mean
        return means[-1][0]

    low, high = _TAILS
    return (at(low), at(high)), (at(1 - high), at(1 - low))
