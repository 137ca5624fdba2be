"""Figures with their uncertainty: means, proportions, spread over seeds. Pure, deterministic functions.

Intervals are 95 %. Means: percentile bootstrap over prompts (Efron & Tibshirani 1993, chapter 13); proportions:
Wilson's. Where there are `few` prompts both are too narrow, since a bootstrap knows only values that it has seen: then
the exact interval for as many outcomes as the values are worth stands (see `interval_of_few`). If a prompt has several
values (the turns of a conversation), whole prompts are resampled and the standard error is cluster-robust, because
values of one prompt are correlated. The variation between training seeds is not part of a single checkpoint's interval;
it has its own type, `Spread`.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from harness.stats.bounds import Mean, mean_of
from harness.stats.crossed import mean_of_resamples
from harness.stats.proportions import clopper_pearson, wilson
from harness.stats.student import quantile
from harness.types import Metric, Record

if TYPE_CHECKING:
    import numpy as np


class Spread(Record):
    """A figure over several training runs of one method. `sd`: standard deviation (n - 1); None for fewer than two.
    `n`: runs that have the figure; `n_invalid`: runs that should have it but don't."""

    mean: float | None
    sd: float | None = None
    n: int = 0
    n_invalid: int = 0


RESAMPLES = 2000
AT_ONCE = 1 << 21
"""Indices of resamples that are drawn at a time."""
ENOUGH = 40
"""Prompts from which a bootstrap is used."""
DIFFERENT = 10
"""Prompts whose value is not the commonest one that a bootstrap needs."""


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
    strata: Sequence[Hashable] | None = None,
    limits: tuple[float, float] | None = None,
    seed: int = 0,
    scale: float = 1.0,
) -> Metric:
    """The mean of the scored values, times `scale`. A value of None counts only in `n_invalid`.

    `groups`: each value's prompt, if a prompt has several values. Then prompts, not values, are resampled and counted
    in `n`, and the standard error over G prompts is sqrt(G / (G - 1) Σ_g (Σ_{i in g} (x_i - mean))²) / n, which is
    sd / sqrt(n) if each prompt has one value. `strata`: each value's stratum, such as its category; prompts are then
    resampled within strata (see `stratified_weights`), and only the variance within them counts. `limits`: the smallest
    and largest possible value, scaled; without them few prompts have Student's t interval. No interval and no standard
    error for fewer than two prompts.
    """
    import numpy as np

    stratum: list[Hashable] = []
    if groups is None and strata is None:
        sums = np.fromiter((0 + value * scale for value in values if value is not None), dtype=float)
        counts = np.ones(len(sums))
    else:
        sums, counts, stratum = _by_prompt(values, groups, strata, scale)
    n, prompts = int(counts.sum()), len(sums)
    invalid = len(values) - n
    if n == 0:
        return Metric(value=None, n=0, n_invalid=invalid)
    mean = float(sums.sum() / n)
    if prompts < 2:
        return Metric(value=mean, n=prompts, n_invalid=invalid)
    per_prompt = (mean + (sums - counts * mean) * prompts / n).tolist()
    parts = None if strata is None else merged(stratum)
    summary = mean_of(per_prompt, None, 0.0, parts)
    if few(per_prompt, limits):
        ci95 = interval_of_few(summary, limits)
    elif parts is None:
        ci95 = percentile_interval(_resampled_means(sums, counts, seed))
    else:
        weights = stratified_weights(parts, RESAMPLES, seed)
        ci95 = percentile_interval((weights @ sums) / (weights @ counts))
    return Metric(value=mean, stderr=summary.stderr, ci95=ci95, n=prompts, n_invalid=invalid)


def _by_prompt(
    values: Sequence[float | None],
    groups: Sequence[Hashable] | None,
    strata: Sequence[Hashable] | None,
    scale: float,
) -> "tuple[np.ndarray, np.ndarray, list[Hashable]]":
    """(sum, number, stratum) of each prompt's scored values, in the order of their first ones."""
    import numpy as np

    labels = range(len(values)) if groups is None else groups
    of_value = [None] * len(values) if strata is None else list(strata)
    by_prompt: dict[Hashable, list[float]] = {}
    stratum: dict[Hashable, Hashable] = {}
    for label, value, part in zip(labels, values, of_value, strict=True):
        if value is not None:
            by_prompt.setdefault(label, []).append(value * scale)
            stratum[label] = part
    sums = np.array([sum(v) for v in by_prompt.values()], dtype=float)
    counts = np.array([len(v) for v in by_prompt.values()], dtype=float)
    return sums, counts, [stratum[label] for label in by_prompt]


def _resampled_means(sums: "np.ndarray", counts: "np.ndarray", seed: int) -> "np.ndarray":
    """The means of RESAMPLES resamples of prompts, those of `bootstrap_indices`: a few at a time, since all indices at
    once are 16 kB a prompt."""
    import numpy as np

    rng, n = np.random.default_rng(seed), len(sums)
    at_once = max(1, AT_ONCE // n)
    means = np.empty(RESAMPLES)
    for first in range(0, RESAMPLES, at_once):
        drawn = rng.integers(0, n, size=(min(at_once, RESAMPLES - first), n))
        means[first : first + at_once] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def few(per_prompt: Sequence[float], limits: tuple[float, float] | None = None) -> bool:
    """Whether values, one per prompt, are too few for a bootstrap: fewer than ENOUGH; or fewer than DIFFERENT that are
    not the commonest; or, between limits, so skewed that their mean is as skewed as that of rare wins on fewer than
    DIFFERENT prompts, as weighted verdicts on a weak system are: a few large ones among many near zero."""
    _, most = Counter(per_prompt).most_common(1)[0]
    if len(per_prompt) < ENOUGH or len(per_prompt) - most < DIFFERENT:
        return True
    middle = fmean(per_prompt)
    squares = math.fsum((x - middle) ** 2 for x in per_prompt)
    cubes = math.fsum((x - middle) ** 3 for x in per_prompt)
    return limits is not None and DIFFERENT * cubes**2 > squares**3


def interval_of_few(mean: Mean, limits: tuple[float, float] | None) -> tuple[float, float]:
    """Clopper and Pearson's interval of a mean between `limits`, at the number of wins and losses that would have its
    variance, as for surveys (Korn & Graubard 1998). The variance counts half a win and half a loss more than were seen.
    Without limits, Student's t interval."""
    if limits is None:
        reach = quantile(0.975, mean.degrees) * mean.stderr
        return mean.value - reach, mean.value + reach
    low, width = limits[0], limits[1] - limits[0]
    share = min(1.0, max(0.0, (mean.value - low) / width))
    variance = (mean.squares / width**2 + 0.5) / (mean.n + 1)
    ends = clopper_pearson(share, mean.n * max(1.0, share * (1 - share) / variance))
    return low + ends[0] * width, low + ends[1] * width


def interval_of_few_resamples(
    value: float, resamples: Sequence[float], n: int, limits: tuple[float, float]
) -> tuple[float, float]:
    """The interval of a figure between `limits` that is not a mean over its n prompts, from a bootstrap over them where
    they are few: by `harness.stats.bounds`, with a prompt that nobody has seen at each limit."""
    half, middle = (limits[1] - limits[0]) / 2, (limits[0] + limits[1]) / 2
    low, high = mean_of_resamples(value, resamples, n, half)._replace(centre=middle).interval()
    return max(low, limits[0]), min(high, limits[1])


def merged(strata: Sequence[Hashable]) -> list[Hashable]:
    """Strata of two prompts or more: those of one are put together, and with the smallest of the others if need be."""
    sizes = Counter(strata)
    single = [stratum for stratum, size in sizes.items() if size == 1]
    large = sorted((stratum for stratum, size in sizes.items() if size > 1), key=lambda stratum: sizes[stratum])
    if not single:
        return list(strata)
    target = large[0] if len(single) == 1 and large else single[0]
    return [target if sizes[stratum] == 1 else stratum for stratum in strata]


def stratified_weights(strata: Sequence[Hashable], resamples: int, seed: int) -> "np.ndarray":
    """The weight of each prompt in each resample within strata: [resamples, prompts]. One fewer is drawn of each
    stratum than it has, and weighs more, so that the variance is right for small strata too (Rao & Wu 1988)."""
    import numpy as np

    rng, weights = np.random.default_rng(seed), np.zeros((resamples, len(strata)))
    members: dict[Hashable, list[int]] = {}
    for i, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(i)
    for group in members.values():
        size = len(group)
        drawn = np.asarray(group)[rng.integers(0, size, size=(resamples, size - 1))]
        np.add.at(weights, (np.arange(resamples)[:, None], drawn), size / (size - 1))
    return weights


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
    """The share of successes among the scored outcomes, times `scale`, with Wilson's interval (1927), or for `few`
    outcomes the exact one. An outcome is True (1), False (0), a tie (0.5), or None: not scored, counted only in
    `n_invalid`."""
    scored = [float(o) for o in outcomes if o is not None]
    n, invalid = len(scored), len(outcomes) - len(scored)
    if n == 0:
        return Metric(value=None, n=0, n_invalid=invalid)
    share = sum(scored) / n
    low, high = clopper_pearson(share, n) if few(scored) else wilson(share, n)
    ci95 = (low * scale, high * scale)
    spread = sum((o - share) ** 2 for o in scored)
    stderr = scale * math.sqrt(spread / (n - 1) / n) if n > 1 else None
    return Metric(value=share * scale, stderr=stderr, ci95=ci95, n=n, n_invalid=invalid)


def accuracy_metric(outcomes: Sequence[float | None]) -> Metric:
    """The share of correctly ordered pairs: 1 correct, 0 wrong, 0.5 a tie, None not scored.

    Without ties it is a proportion. With ties `mean_metric`'s interval is used. All ties: a
    constant without an interval, as for an untrained policy, whose accuracy is 0.5 by definition.
    """
    if 0.5 not in outcomes:
        return proportion_metric(outcomes)
    metric = mean_metric(outcomes, limits=(0.0, 1.0))
    constant = all(outcome in (0.5, None) for outcome in outcomes)
    return metric.model_copy(update={"ci95": None, "stderr": None}) if constant else metric


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
