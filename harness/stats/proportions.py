"""Confidence intervals of a share of outcomes, where their number may be an effective one (Korn & Graubard 1998)."""

import math
from functools import lru_cache
from statistics import NormalDist

from harness.stats.student import incomplete_beta

_TAIL = 0.025


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n outcomes (1927). For few outcomes it covers less: 90.5 % of samples of 20
    where the true share is 2.6 %."""
    z = NormalDist().inv_cdf(1 - _TAIL)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


@lru_cache(maxsize=4096)
def clopper_pearson(share: float, n: float) -> tuple[float, float]:
    """The exact 95 % interval of a share of n outcomes (Clopper & Pearson 1934), which never covers less than it
    says."""
    won, lost = share * n, (1 - share) * n
    low = _beta_quantile(won, lost + 1) if won > 0 else 0.0
    high = 1 - _beta_quantile(lost, won + 1) if lost > 0 else 1.0
    return low, high


def _beta_quantile(a: float, b: float) -> float:
    """The value that a beta variate falls below with probability 2.5 %: Newton's method, kept between the bounds of a
    bisection."""
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    low, high, x = 0.0, 1.0, a / (a + b)
    for _ in range(200):
        excess = incomplete_beta(x, a, b) - _TAIL
        low, high = (low, x) if excess > 0 else (x, high)
        density = math.exp((a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - log_beta)
        step = x - excess / density if density > 0 else low
        before, x = x, step if low < step < high else (low + high) / 2
        if abs(x - before) <= 1e-13 or high - low <= 1e-13:
            break
    return x
