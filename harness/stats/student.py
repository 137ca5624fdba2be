"""Student's t distribution without scipy, whose import takes longer than a whole gate."""

import math
from functools import lru_cache
from statistics import NormalDist

_SMALLEST = 1e-300


def upper_tail(t: float, degrees: float) -> float:
    """P(T > t) for T with this many degrees of freedom."""
    if t < 0:
        return 1 - upper_tail(-t, degrees)
    return 0.5 * incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5)


@lru_cache(maxsize=1024)
def quantile(p: float, degrees: float) -> float:
    """The value that T does not exceed with probability `p`; infinite for p = 0 and p = 1. By Newton's method on the
    logarithm of the tail, from an expansion around the normal quantile (Abramowitz & Stegun 26.7.5)."""
    if p < 0.5:
        return -quantile(1 - p, degrees)
    if p >= 1:
        return math.inf
    if p == 0.5:
        return 0.0
    tail, z = 1 - p, NormalDist().inv_cdf(p)
    if degrees == 1:
        return 1 / math.tan(math.pi * tail)
    x = z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    for _ in range(50):
        reached = upper_tail(x, degrees)
        density = scale * (1 + x * x / degrees) ** (-(degrees + 1) / 2)
        step = math.log(reached / tail) * reached / density
        x = max(x / 2, x + step)
        if abs(step) <= 1e-14 * x:
            break
    return x


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b): DLMF 8.17.22, a continued fraction, which converges fast on
    one side of (a + 1) / (a + b + 2); I_x(a, b) = 1 - I_{1-x}(b, a) gives the other."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)
    log_factor = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_factor) / a * _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """1 / (1 + d_1 / (1 + d_2 / (1 + ...))) by Lentz's method."""
    value, c, d = 1.0, 1.0, 0.0
    for k in range(1, 10_000):
        m = k // 2
        if k % 2:
            step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + step * d or _SMALLEST)
        c = 1 + step / c or _SMALLEST
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return 1 / value
