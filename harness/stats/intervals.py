"""Figures with their uncertainty: means, proportions, spread over seeds. Pure, deterministic functions.

Intervals are 95 %. Means: percentile bootstrap over prompts (Efron & Tibshirani 1993, chapter 13). If a prompt has
several values (the turns of a conversation), whole prompts are resampled and the standard error is cluster-robust,
because values of one prompt are correlated. Proportions: Wilson's interval. The variation between training seeds is not
part of a single checkpoint's interval; it has its own type, `Spread`.
"""

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from harness.types import Metric, Spread

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2000


def bootstrap_indices(n: int, resamples: int, seed: int) -> "np.ndarray":
    """Indices of the items in each bootstrap resample of `n` items: [resamples, n], drawn with replacement."""
    import numpy as np

    return np.random.default_rng(seed).integers(0, n, size=(resamples, n))


def percentile_interval(samples: "np.ndarray | Sequence[float]") -> tuple[float, float]:
    """The 2.5th and 97.5th percentiles of bootstrapped values."""
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
    """The mean of the scored values, times `scale`. A value of None counts only in `n_invalid`.

    `groups`: each value's prompt, if a prompt has several values. Then prompts, not values, are resampled, and the
    standard error over G prompts is sqrt(G / (G - 1) Σ_g (Σ_{i in g} (x_i - mean))²) / n, which is sd / sqrt(n) if
    each prompt has one value. No interval and no standard error for fewer than two prompts.
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
    resamples = bootstrap_indices(prompts, RESAMPLES, seed)
    means = sums[resamples].sum(axis=1) / counts[resamples].sum(axis=1)
    return Metric(value=mean, stderr=stderr, ci95=percentile_interval(means), n=n, n_invalid=invalid)


def ratio_metric(parts: Sequence[float], wholes: Sequence[float]) -> Metric:
    """The mean of `parts` over the mean of `wholes`, one of each per prompt. None if all wholes are 0 or their mean is.
    The interval is a percentile bootstrap over prompts; there is none where the wholes' own one includes 0: the ratio
    then has no bounds (Fieller 1954). It has no standard error, because a ratio's is dominated by its tails."""
    import numpy as np

    above, below = np.array(parts, dtype=float), np.array(wholes, dtype=float)
    n = len(below)
    if n == 0 or below.mean() == 0:
        return Metric(value=None)
    value = float(above.mean() / below.mean())
    if n < 2:
        return Metric(value=value, n=n)
    resamples = bootstrap_indices(n, RESAMPLES, 0)
    divisors = below[resamples].mean(axis=1)
    low, high = percentile_interval(divisors)
    if low <= 0 <= high or not divisors.all():
        return Metric(value=value, n=n)
    return Metric(value=value, ci95=percentile_interval(above[resamples].mean(axis=1) / divisors), n=n)


def proportion_metric(outcomes: Sequence[bool | float | None], *, scale: float = 1.0) -> Metric:
    """The share of successes among the scored outcomes, times `scale`, with Wilson's interval (1927). An outcome is
    True (1), False (0), a tie (0.5), or None: not scored, counted only in `n_invalid`."""
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
    """The share of correctly ordered pairs: 1 correct, 0 wrong, 0.5 a tie, None not scored.

    Wilson's interval without ties. With ties it is not a proportion, and a bootstrap interval is used. (All ties: an
    interval of width 0, as for an untrained policy, whose accuracy is 0.5 by definition.)
    """
    return mean_metric(outcomes) if 0.5 in outcomes else proportion_metric(outcomes)


def spread(values: Sequence[float | None]) -> Spread:
    """Mean and standard deviation of a figure over training runs. `values`: one per run, None if a run lacks the
    figure."""
    from statistics import fmean, stdev

    present = [value for value in values if value is not None]
    return Spread(
        mean=fmean(present) if present else None,
        sd=stdev(present) if len(present) > 1 else None,
        n=len(present),
        n_invalid=len(values) - len(present),
    )
