"""Is a new row not worse than an old one by more than a margin? A paired, one-sided test (Wellek 2010, chapter 5)."""

import math
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

Outcome = Literal["not worse", "worse", "inconclusive"]


class NonInferiority(NamedTuple):
    """`difference`: mean of new less old. `lower`, `upper`: each a one-sided bound at 1 - alpha. `outcome`: `not worse`
    where the lower bound is above -margin, `worse` where the upper one is below it. `detectable`: the true difference
    from -margin that this n would settle with 80 % power. `needed`: how many prompts would settle a true difference as
    large as the one seen, with 80 % power; None where it lies at the margin itself. `n`: prompts."""

    outcome: Outcome
    difference: float
    lower: float
    upper: float
    n: int
    detectable: float
    needed: int | None


def non_inferiority(
    differences: Sequence[float], margin: float, alpha: float, groups: Sequence[Hashable] | None = None
) -> NonInferiority:
    """Of paired differences, new less old, one a prompt; with several a prompt `groups` names their prompts, which are
    then what varies. Bounds: mean and cluster-robust standard error with Student's t on (prompts - 1) degrees. Raises
    ValueError for fewer than two prompts."""
    from scipy.stats import t

    labels = list(range(len(differences))) if groups is None else list(groups)
    by_prompt: dict[Hashable, list[float]] = {}
    for label, value in zip(labels, differences, strict=True):
        by_prompt.setdefault(label, []).append(value)
    n = len(by_prompt)
    if n < 2:
        raise ValueError(f"{n} prompts are too few for a test")
    mean = math.fsum(differences) / len(differences)
    residuals = [math.fsum(v) - len(v) * mean for v in by_prompt.values()]
    stderr = math.sqrt(n / (n - 1) * math.fsum(r * r for r in residuals)) / len(differences)
    quantile = float(t.ppf(1 - alpha, n - 1))
    lower, upper = mean - quantile * stderr, mean + quantile * stderr
    return _judged(mean, lower, upper, stderr, margin, alpha, n)


def from_resamples(
    difference: float, resamples: Sequence[float], margin: float, alpha: float, n: int
) -> NonInferiority:
    """Of figures that are no means: their difference, and that in bootstrap resamples of the n prompts, whose
    percentiles are the bounds."""
    import numpy as np

    lower, upper = (float(x) for x in np.percentile(resamples, [100 * alpha, 100 * (1 - alpha)]))
    stderr = float(np.std(resamples, ddof=1))
    return _judged(difference, lower, upper, stderr, margin, alpha, n)


def _judged(
    difference: float, lower: float, upper: float, stderr: float, margin: float, alpha: float, n: int
) -> NonInferiority:
    from scipy.stats import norm

    outcome: Outcome = "not worse" if lower > -margin else "worse" if upper < -margin else "inconclusive"
    reach = float(norm.ppf(1 - alpha) + norm.ppf(0.8)) * stderr
    distance = abs(difference + margin)
    needed = math.ceil(n * (reach / distance) ** 2) if distance > 0 and reach > 0 else (2 if distance > 0 else None)
    return NonInferiority(outcome, difference, lower, upper, n, reach, needed)
