"""Whether an interval or a p value drawn at random (bootstrap, sign flips) can come from given values: what a reader of
figures checks without drawing again, which would take numpy.

A drawn figure varies with the random numbers. The checks allow REACH standard deviations of that, and what the
expansions that stand in for the exact distributions miss.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations_with_replacement, pairwise
from statistics import NormalDist

from harness.stats.paired import PERMUTATIONS, RESAMPLES
from harness.stats.student import upper_tail

REACH = 4.5
FEW_PROMPTS = 6
"""Prompts up to which all resamples are listed (462)."""
FEW_FLIPS = 12
"""Differences up to which all signs are listed (4,096)."""
_NORMAL = NormalDist()
_TAIL = 0.025
_TAIL_REACH = REACH * math.sqrt(_TAIL * (1 - _TAIL) / RESAMPLES)
_TAILS = (_TAIL - _TAIL_REACH, _TAIL + _TAIL_REACH)
"""The tail probabilities between which the 2.5th percentile of RESAMPLES draws lies."""

Prompts = Sequence[tuple[float, int]]
"""(sum of the values, number of values) of each prompt."""
Range = tuple[float, float]


def bootstrap_ends(prompts: Prompts) -> tuple[Range, Range]:
    """The ranges within which the lower and the upper end of a percentile-bootstrap interval of the mean lie; whole
    prompts are resampled."""
    if len(prompts) <= FEW_PROMPTS:
        return _listed_ends(prompts)
    total = sum(count for _, count in prompts)
    mean = math.fsum(value for value, _ in prompts) / total
    residuals = [value - count * mean for value, count in prompts]
    squares = math.fsum(r * r for r in residuals)
    means = sorted(value / count for value, count in prompts)
    if squares <= (1e-12 * max(1.0, abs(mean)) * total) ** 2:
        return (mean, mean), (mean, mean)
    spread = math.sqrt(squares) / total
    skewness = math.fsum(r**3 for r in residuals) / squares**1.5
    step = max(high - low for low, high in pairwise(means)) / len(means)
    slack = 0.08 * spread + step

    def end(tail: float) -> float:
        z = _NORMAL.inv_cdf(tail)
        return float(mean + spread * (z + skewness / 6 * (z * z - 1)))  # Cornish-Fisher

    def clipped(low: float, high: float) -> Range:
        return max(means[0], min(low, high) - slack), min(means[-1], max(low, high) + slack)

    return clipped(end(_TAILS[0]), end(_TAILS[1])), clipped(end(1 - _TAILS[1]), end(1 - _TAILS[0]))


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


def wilson(share: float, n: int) -> Range:
    """Wilson's 95 % interval of a share (1927)."""
    z = _NORMAL.inv_cdf(0.975)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def sign_flip_range(parts: Sequence[float], stderr: float) -> Range:
    """The range of the p value of `harness.stats.paired`'s sign-flip test. `parts`: what each prompt adds to the mean
    difference. `stderr`: the standard error of that mean."""
    nonzero = [abs(part) for part in parts if part]
    difference = abs(math.fsum(parts))
    if len(nonzero) <= FEW_FLIPS:
        ends = [_listed_flips(nonzero, difference)]
    else:
        # Of values on a grid, sums equal to the observed one count in full: as if it were a step smaller.
        step = 2 * min(nonzero) if len({round(size / max(nonzero), 9) for size in nonzero}) <= 12 else 0.0
        ends = [_expanded_flips(nonzero, difference), _expanded_flips(nonzero, max(0.0, difference - step))]
    slack = [REACH * math.sqrt(p * (1 - p) / PERMUTATIONS) + 2 / PERMUTATIONS for p in ends]
    low, high = min(ends) - max(slack), max(ends) + max(slack)
    if len(nonzero) > FEW_FLIPS:
        low, high = 0.95 * low - 0.004, 1.05 * high + 0.004
    if stderr > 0 and low <= 20 / PERMUTATIONS:  # there the t test's p value may stand instead
        low = min(low, 0.999 * 2 * upper_tail(difference / stderr, len(parts) - 1))
    return low, high


def _listed_flips(sizes: Sequence[float], difference: float) -> float:
    sums = [0.0]
    for size in sizes:
        sums = [s + sign for s in sums for sign in (size, -size)]
    bar = difference - 1e-9 * max(1.0, difference)
    return sum(abs(s) >= bar for s in sums) / len(sums)


def _expanded_flips(sizes: Sequence[float], difference: float) -> float:
    """By an Edgeworth expansion, whose skewness is zero; for differences of one size by the binomial distribution."""
    if max(sizes) - min(sizes) <= 1e-12 * max(sizes):
        return _binomial_flips(len(sizes), round(difference / sizes[0]))
    squares = math.fsum(s * s for s in sizes)
    z = difference / math.sqrt(squares)
    kurtosis = -2 * math.fsum(s**4 for s in sizes) / squares**2
    tail = 1 - _NORMAL.cdf(z) + _NORMAL.pdf(z) * kurtosis / 24 * (z**3 - 3 * z)
    return min(1.0, max(0.0, 2 * tail))


@lru_cache(maxsize=1024)
def _binomial_flips(n: int, difference: int) -> float:
    """P(|sum of n random signs| >= difference)."""
    return min(1.0, 2 * sum(_chances(n, (n + difference + 1) // 2))) if difference > 0 else 1.0


def _chances(n: int, first: int) -> Iterator[float]:
    for k in range(first, n + 1):
        yield math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
