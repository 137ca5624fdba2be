"""Non-inferiority of a new row to an old one, up to a margin: a paired, one-sided test (Wellek 2010, chapter 5)."""

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

from harness.stats.student import quantile

NonInferiorityOutcome = Literal["not worse", "worse", "inconclusive"]


class NonInferiority(NamedTuple):
    """A test result. `difference`: mean of new minus old. `lower`, `upper`: one-sided bounds, each at level 1 - alpha.
    `outcome`: `not worse` if the lower bound is above -margin, `worse` if the upper bound is below it. `detectable`:
    the distance of the true difference from -margin that n prompts resolve with 80 % power. `needed`: the number of
    prompts that resolve the observed difference with 80 % power; None if it lies exactly at -margin. `n`: prompts."""

    outcome: NonInferiorityOutcome
    difference: float
    lower: float
    upper: float
    n: int
    detectable: float
    needed: int | None


def non_inferiority(
    differences: Sequence[float], margin: float, alpha: float, groups: Sequence[Hashable] | None = None
) -> NonInferiority:
    """The test on paired differences, new minus old. `groups`: each difference's prompt, if a prompt has several;
    prompts are then the sampling units. Bounds: mean and cluster-robust standard error, Student's t with (prompts - 1)
    degrees of freedom. Raises ValueError for fewer than two prompts."""
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
    reach = quantile(1 - alpha, n - 1) * stderr
    lower, upper = mean - reach, mean + reach
    return _result(mean, lower, upper, stderr, margin, alpha, n)


def from_resamples(
    difference: float, resamples: Sequence[float], margin: float, alpha: float, n: int
) -> NonInferiority:
    """The test for figures that are not means. `resamples`: their difference in bootstrap resamples of the n prompts,
    whose percentiles are the bounds."""
    import numpy as np

    lower, upper = (float(x) for x in np.percentile(resamples, [100 * alpha, 100 * (1 - alpha)]))
    stderr = float(np.std(resamples, ddof=1))
    return _result(difference, lower, upper, stderr, margin, alpha, n)


def _result(
    difference: float, lower: float, upper: float, stderr: float, margin: float, alpha: float, n: int
) -> NonInferiority:
    normal = NormalDist()
    outcome: NonInferiorityOutcome = "not worse" if lower > -margin else "worse" if upper < -margin else "inconclusive"
    reach = (normal.inv_cdf(1 - alpha) + normal.inv_cdf(0.8)) * stderr
    distance = abs(difference + margin)
    needed = math.ceil(n * (reach / distance) ** 2) if distance > 0 and reach > 0 else (2 if distance > 0 else None)
    return NonInferiority(outcome, difference, lower, upper, n, reach, needed)
