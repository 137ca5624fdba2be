"""Figures with their uncertainty: means, proportions, rank correlation. Pure functions, the same to the digit always.

Intervals are 95 %. Means: percentile bootstrap over prompts (Efron & Tibshirani 1993, chapter 13). Where a prompt has
several values (the turns of a conversation), whole prompts are resampled and the standard error is the cluster-robust
one, since values of one prompt go up and down together. Proportions: Wilson's interval. How far
trainings with other seeds lie apart is in no interval of one checkpoint, and has a type of its own: `Spread`.
"""

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from harness.types import Metric, Spread

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2000


def bootstrap_indices(n: int, resamples: int, seed: int) -> "np.ndarray":
    """Which of `n` items each resample holds: [resamples, n], drawn with replacement."""
    import numpy as np

    return np.random.default_rng(seed).integers(0, n, size=(resamples, n))


def percentile_interval(samples: "np.ndarray | Sequence[float]") -> tuple[float, float]:
    """The middle 95 % of bootstrapped values."""
    import numpy as np

    low, high = np.percentile(np.asarray(samples, dtype=float), [2.5, 97.5])
    return float(low), float(high)


def mean_metric(
    values: Sequence[float | None],
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    scale: float = 1.0,
) -> Metric:
    """The mean of what was scored, times `scale`; None among `values` is counted in `n_invalid` and nowhere else.

    `groups` names each value's prompt where a prompt has several: then prompts, not values, are resampled, and the
    standard error is sqrt(G / (G - 1) Σ_g (Σ_{i in g} (x_i - mean))²) / n over G prompts, which is sd / sqrt(n) for
    prompts of one value each. No interval and no standard error from fewer than two prompts.
    """
    import numpy as np

    labels = list(range(len(values))) if groups is None else list(groups)
    by_prompt: dict[Hashable, list[float]] = {}
    for label, value in zip(labels, values, strict=True):
        if value is not None:
            by_prompt.setdefault(label, []).append(value * scale)
    sums = np.array([sum(v) for v in by_prompt.values()], dtype=float)
    counts = np.array([len(v) for v in by_prompt.values()], dtype=float)
    n = int(counts.sum())
    invalid = len(values) - n
    if n == 0:
        return Metric(value=None, n=0, n_invalid=invalid)
    mean = float(sums.sum() / n)
    prompts = len(sums)
    if prompts < 2:
        return Metric(value=mean, n=n, n_invalid=invalid)
    residuals = sums - counts * mean
    stderr = float(np.sqrt(prompts / (prompts - 1) * (residuals**2).sum()) / n)
    drawn = bootstrap_indices(prompts, RESAMPLES, seed)
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return Metric(value=mean, stderr=stderr, ci95=percentile_interval(means), n=n, n_invalid=invalid)


def proportion_metric(outcomes: Sequence[bool | float | None], *, scale: float = 1.0) -> Metric:
    """The share of successes among what was scored, times `scale`, with Wilson's interval (1927). An outcome is True
    (1), False (0), a tie (0.5), or None: not scored, and counted in `n_invalid` alone."""
    from statistics import NormalDist

    scored = [float(o) for o in outcomes if o is not None]
    n, invalid = len(scored), len(outcomes) - len(scored)
    if n == 0:
        return Metric(value=None, n=0, n_invalid=invalid)
    share, z = sum(scored) / n, NormalDist().inv_cdf(0.975)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    ci95 = (max(0.0, centre - half) * scale, min(1.0, centre + half) * scale)
    spread = sum((o - share) ** 2 for o in scored)
    stderr = scale * math.sqrt(spread / (n - 1) / n) if n > 1 else None
    return Metric(value=share * scale, stderr=stderr, ci95=ci95, n=n, n_invalid=invalid)


def accuracy_metric(outcomes: Sequence[float | None]) -> Metric:
    """The share of pairs that are ordered as they should be: 1 right, 0 wrong, 0.5 a tie, None not scored.

    Wilson's interval; with ties it is no proportion, and the interval is the bootstrap's (all ties: no spread at all,
    as for an untrained policy, whose 0.5 is a definition and not an estimate).
    """
    return mean_metric(outcomes) if 0.5 in outcomes else proportion_metric(outcomes)


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b (ties corrected) between two rankings; None where one of them is constant or too short."""
    from scipy.stats import kendalltau

    if len(first) < 2:
        return None
    tau = float(kendalltau(first, second).statistic)
    return None if math.isnan(tau) else tau


def cohen_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Cohen's kappa (1960) of two raters' categories, item by item: agreement beyond that of raters who keep their own
    shares and guess. None where both always say the same one, or there is nothing."""
    from collections import Counter

    n = len(pairs)
    firsts, seconds = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    by_chance = sum(count * seconds[category] for category, count in firsts.items())
    if by_chance == n * n:
        return None
    return (n * sum(a == b for a, b in pairs) - by_chance) / (n * n - by_chance)


def krippendorff_alpha(items: Sequence[Sequence[float | None]]) -> float | None:
    """Krippendorff's alpha on the interval scale (2011) of several raters, one value each an item, None where one gave
    none: 1 is agreement, 0 what chance gives. None where no two raters rated one item, or all values are the same."""
    rated = [[v for v in item if v is not None] for item in items]
    units = [unit for unit in rated if len(unit) > 1]
    values = [v for unit in units for v in unit]
    expected = _squared_differences(values) / (len(values) - 1) if values else 0.0
    if expected == 0:
        return None
    return 1 - sum(_squared_differences(unit) / (len(unit) - 1) for unit in units) / expected


def _squared_differences(values: Sequence[float]) -> float:
    """The sum over all ordered pairs of (a - b)²."""
    mean = math.fsum(values) / len(values)
    return 2 * len(values) * math.fsum((v - mean) ** 2 for v in values)


def spread(values: Sequence[float | None]) -> Spread:
    """Mean and standard deviation of a figure over trainings, one value each; None: that training does not have it."""
    from statistics import fmean, stdev

    known = [value for value in values if value is not None]
    return Spread(
        mean=fmean(known) if known else None,
        sd=stdev(known) if len(known) > 1 else None,
        n=len(known),
        n_invalid=len(values) - len(known),
    )
