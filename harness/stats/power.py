"""Power of the comparison of two methods: what a number of seeds, prompts and samples would show.

The test is `harness.stats.crossed`'s. Its power follows from the parts of a difference's variance: the mean of K seeds'
means on n prompts is normal with variance σ_S² / K + σ_P² / n + σ_E² / (Kn), and the seeds' mean square is
(n σ_S² + σ_E²) χ²_{K-1} / (K - 1), independent of it (Scheffé 1959, chapter 7).
"""

import math
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

from harness.stats.bounds import SKEWED, UNSEEN
from harness.stats.crossed import LEAST
from harness.stats.student import quantile

NODES = 100
"""Values of χ² over which power is averaged, of equal probability."""
_NORMAL = NormalDist()


class Parts(NamedTuple):
    """Standard deviations of a difference between two methods, in the figure's unit. `training`: of the seeds' true
    differences. `prompts`: of the prompts' true differences, the same for all seeds. `rest`: of a single answer's
    difference beyond both: sampling of answers, and what a training does to single prompts. `judge`: of a single
    verdict's difference, given the answers. `reach`: the largest difference on a prompt."""

    training: float
    prompts: float
    rest: float
    judge: float
    reach: float

    def residual(self, samples: int, judge_samples: int) -> float:
        """The variance beyond seeds and prompts of one prompt's difference in one pair of trainings."""
        return self.rest**2 / samples + self.judge**2 / (samples * judge_samples)


class Design(NamedTuple):
    """How much is trained and asked: seeds of each method, prompts, answers to each, verdicts on each answer."""

    seeds: int
    prompts: int
    samples: int = 1
    judge_samples: int = 1


def stderr(parts: Parts, design: Design) -> float:
    """The standard error of the mean difference."""
    k, n = design.seeds, design.prompts
    rest = parts.residual(design.samples, design.judge_samples)
    return math.sqrt(parts.training**2 / k + parts.prompts**2 / n + rest / (k * n))


def power(difference: float, parts: Parts, design: Design, level: float = 0.95) -> float:
    """The probability that the two-sided test of two methods detects a true difference of this size. With one seed it
    is that of two checkpoints, which says nothing about the methods."""
    spread, tail = stderr(parts, design), (1 - level) / 2
    size, n = abs(difference), design.prompts
    shrunk = n / (n + UNSEEN)
    if spread == 0:  # nothing varies: only what nobody has seen is in doubt
        return float(shrunk * size > _reach(parts, design, 0.0, tail, size))
    total = 0.0
    for seen in _seen_over_seeds(parts, design):
        reach = _reach(parts, design, seen, tail, size)
        total += _NORMAL.cdf((shrunk * size - reach) / (shrunk * spread))
        total += _NORMAL.cdf((-shrunk * size - reach) / (shrunk * spread))
    return total / NODES


def _seen_over_seeds(parts: Parts, design: Design) -> list[float]:
    """What the seeds' part of the variance is seen as, M_S / (Kn) but at least LEAST of M_E / (Kn), over its
    distribution."""
    k, n = design.seeds, design.prompts
    rest = parts.residual(design.samples, design.judge_samples) / (k * n)
    if k == 1:
        return [0.0] * NODES
    expected = parts.training**2 / k + rest
    return [max(LEAST * rest, expected * ratio) for ratio in _chi_squared(k - 1)]


def _reach(parts: Parts, design: Design, seen: float, tail: float, size: float) -> float:
    """Half the width of the interval."""
    k, n = design.seeds, design.prompts
    rest = parts.residual(design.samples, design.judge_samples)
    together, single = parts.prompts**2 + rest / k, parts.prompts**2 + rest
    reach = parts.reach * math.sqrt(together / single) if single else parts.reach
    within = (n - 1) * together
    squares = within + UNSEEN * (reach**2 + n * size**2 / (n + UNSEEN))
    over_prompts = squares / ((n + UNSEEN - 1) * (n + UNSEEN))
    q = quantile(1 - tail, n - 1)
    # Of the bound on the side of zero: what the unseen prompt adds, less what a difference of this size takes away.
    cubes = reach**3 - 3 * size * within - n * size**3
    skew = max(0.0, cubes) / (within + UNSEEN * reach**2) / n if reach else 0.0
    if k == 1:
        return q * math.sqrt(over_prompts) + (q * q + SKEWED) / 3 * skew
    added = max(0.0, over_prompts - rest / (k * n))
    return math.sqrt(quantile(1 - tail, k - 1) ** 2 * seen + q * q * added) + (q * q + SKEWED) / 3 * skew


@lru_cache(maxsize=64)
def _chi_squared(degrees: int) -> tuple[float, ...]:
    """χ² over its degrees of freedom, at NODES probabilities."""
    shares = [(i + 0.5) / NODES for i in range(NODES)]
    if degrees == 1:
        return tuple(_NORMAL.inv_cdf((1 + share) / 2) ** 2 for share in shares)
    if degrees == 2:
        return tuple(-math.log(1 - share) for share in shares)
    # Wilson & Hilferty (1931): within one percent of the quantiles from three degrees of freedom on.
    small = 2 / (9 * degrees)
    return tuple(max(0.0, 1 - small + _NORMAL.inv_cdf(share) * math.sqrt(small)) ** 3 for share in shares)


def detectable(parts: Parts, design: Design, wanted: float = 0.8, level: float = 0.95) -> float:
    """The smallest true difference that is detected with this probability, to a thousandth of itself; infinite where
    none is."""
    low, high = 0.0, 2 * stderr(parts, design) or 1.0
    most = max(parts.reach, 50 * high)
    while power(high, parts, design, level) < wanted:
        if high >= most:
            return math.inf
        low, high = high, min(most, 1.5 * high)
    for _ in range(60):
        if high - low <= 1e-3 * high:
            break
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, parts, design, level) >= wanted else (middle, high)
    return high
