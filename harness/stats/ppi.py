"""A mean from a judge's verdicts on all prompts and better ones on a random part: prediction-powered inference.

With verdicts f of a judge on all n prompts, and gold verdicts Y on a simple random subset of m of them, the mean of Y
is estimated by mean_n(λ f) + mean_m(Y - λ f), which is right whatever the judge is worth (Angelopoulos, Bates,
Fannjiang, Jordan & Zrnic 2023). λ = cov(Y, f) / var(f) makes its variance smallest (PPI++: Angelopoulos, Duchi & Zrnic
2023, arXiv 2311.01453, section 6). It is at least 0; and it may exceed 1, unlike in the paper's software, since a judge
that is sure of nothing is worth as much as the same judge on a wider scale.

The labelled prompts are a part of the n, not others beside them, as in two-phase sampling (Cochran 1977, section
12.6): the variance is (1/m - 1/n) var(Y - λ f) + var(Y) / n, about the population of prompts. About these n prompts
only, which is what gold verdicts on all of them would say, the last term falls away.

Few labels: each prompt's λ comes from the others (cross-fitting), so that no prompt's residual is small because λ was
fitted to it, and the estimate has no bias from that. The variance is taken for that of m prompts in the intervals of
`harness.stats.intervals.interval_of_few` (a rate, if wins or the judge's errors are rare) and `harness.stats.bounds`
(a difference), which count what m prompts have not shown: a judge that has erred on none of 40 may still err on one in
twenty. Student's t, which stands elsewhere, would miss rare wins in a third of samples.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean
from typing import NamedTuple

from harness.stats.bounds import FEWEST, Mean
from harness.stats.intervals import DIFFERENT, few, interval_of_few
from harness.types import Record

FEWEST_LABELS = 20
"""Labels from which a judge is used: with fewer, nothing can be said about what it is worth."""
Limits = tuple[float, float]


class Estimate(Record):
    """A mean with its 95 % confidence intervals: about the population of prompts, and about these n prompts only
    (`ci95_here`). None for fewer than FEWEST labels, which are too few to tell anything."""

    value: float
    stderr: float
    ci95: tuple[float, float] | None
    ci95_here: tuple[float, float] | None


class Corrected(Record):
    """What labels and a judge say together. `labelled`: by the labels alone. `corrected`: with the judge's help; None
    where it is no help, for the reason in `why_not`. `judge`: the mean by the judge alone, on all prompts. `labels`,
    `prompts`: how many. `weight`: λ. `correlation`: of judge and labels, with its 95 % interval (Fisher 1921). `worth`:
    how many labels alone would have the same standard error."""

    labelled: Estimate
    corrected: Estimate | None
    why_not: str | None
    judge: float | None
    labels: int
    prompts: int
    weight: float
    correlation: float | None
    correlation_ci95: tuple[float, float] | None
    worth: float

    @property
    def best(self) -> Estimate:
        """The corrected estimate, or where there is none that of the labels alone."""
        return self.corrected or self.labelled


class _Sample(NamedTuple):
    """The n prompts. `f`: the judge's value of each; `gold`: the labels by the prompt's place."""

    f: list[float]
    gold: dict[int, float]

    @property
    def finite(self) -> float:
        """1/m - 1/n."""
        return 1 / len(self.gold) - 1 / len(self.f)


def corrected_rate(judge: Sequence[float | None], gold: Sequence[float | None], limits: Limits) -> Corrected:
    """The mean of a quantity between `limits` over prompts, all that the judge was asked about. `judge`: its values,
    None where it gave none: these count as its mean, which costs precision only. `gold`: None where a prompt is not
    labelled; which ones are must have been drawn at random. Raises ValueError for fewer than two labels."""
    return _corrected(judge, gold, limits, paired=False)


def corrected_difference(judge: Sequence[float | None], gold: Sequence[float | None], limits: Limits) -> Corrected:
    """`corrected_rate` for the differences of two rows on the same prompts, which are between `limits`."""
    return _corrected(judge, gold, limits, paired=True)


def _corrected(judge: Sequence[float | None], gold: Sequence[float | None], limits: Limits, paired: bool) -> Corrected:
    if len(judge) != len(gold):
        raise ValueError(f"{len(judge)} verdicts of a judge for {len(gold)} prompts; expected one for each")
    scored = [x for x in judge if x is not None]
    mean_f = fmean(scored) if scored else 0.0
    f = [mean_f if x is None else x for x in judge]
    sample = _Sample(f, {i: y for i, y in enumerate(gold) if y is not None})
    y = list(sample.gold.values())
    if len(y) < 2:
        raise ValueError(f"{len(y)} labels are too few for an estimate; expected at least two")
    labelled = _estimate(y, y, sample, limits, paired)
    weights = _weights(sample)
    residuals = [
        label - weight * (f[i] - mean_f) for (i, label), weight in zip(sample.gold.items(), weights, strict=True)
    ]
    corrected = _estimate(residuals, y, sample, limits, paired)
    r = _correlation([f[i] for i in sample.gold], y)
    interval = None if r is None else _fisher(r, len(y))
    gain = (labelled.stderr / corrected.stderr) ** 2 if corrected.stderr > 0 else 1.0
    why_not = _no_help(len(y), r, interval, gain)
    return Corrected(
        labelled=labelled,
        corrected=None if why_not else corrected,
        why_not=why_not,
        judge=fmean(scored) if scored else None,
        labels=len(y),
        prompts=len(f),
        weight=0.0 if why_not else fmean(weights),
        correlation=r,
        correlation_ci95=interval,
        worth=len(y) if why_not else min(len(y) * gain, len(f)),
    )


def _weights(sample: _Sample) -> list[float]:
    """For each labelled prompt λ from the others: their covariance over the variance of f on all prompts; at least
    0."""
    m, labelled = len(sample.gold), [sample.f[i] for i in sample.gold]
    variance = _central(sample.f, 2) * len(sample.f) / (len(sample.f) - 1)
    if m < 3 or variance == 0:
        return [0.0] * m
    mean_f, mean_y = fmean(labelled), fmean(sample.gold.values())
    products = [(x - mean_f) * (y - mean_y) for x, y in zip(labelled, sample.gold.values(), strict=True)]
    total = math.fsum(products)
    return [max(0.0, (total - m / (m - 1) * product) / (m - 2) / variance) for product in products]


def _estimate(
    values: Sequence[float], labels: Sequence[float], sample: _Sample, limits: Limits, paired: bool
) -> Estimate:
    """The mean of `values`, one for each labelled prompt, which stand for the labels where f is known on all n. Moved
    to the nearest limit where it lies beyond what a mean can be."""
    m, n = len(labels), len(sample.f)
    mean, finite = fmean(values), sample.finite
    of_values, of_labels = (m / (m - 1) * _central(x, 2) for x in (values, labels))
    # The third cumulant of a mean of m out of n, and that of a mean of n.
    here = finite * of_values, finite * (1 / m - 2 / n) * _central(values, 3)
    whole = here[0] + of_labels / n, here[1] + _central(labels, 3) / n**2
    # Bounds for differences; for a rate those for few prompts, or Student's t where neither is rare.
    bounded = limits if few(labels, limits) or few(values, limits) or _rare(values) else None
    about_here = _interval(mean, *here, m, limits, bounded, paired) if finite > 0 else (mean, mean)
    enough = m >= FEWEST
    return Estimate(
        value=min(max(mean, limits[0]), limits[1]),
        stderr=math.sqrt(whole[0]),
        ci95=_interval(mean, *whole, m, limits, bounded, paired) if enough else None,
        ci95_here=about_here if enough else None,
    )


def _rare(values: Sequence[float]) -> bool:
    """Whether the variance of values is that of a few: rare errors of a judge that is nearly always right."""
    return len(values) * _central(values, 2) ** 2 < DIFFERENT * _central(values, 4)


def _interval(
    mean: float, variance: float, third: float, m: int, limits: Limits, bounded: Limits | None, paired: bool
) -> tuple[float, float]:
    half, middle = (limits[1] - limits[0]) / 2, (limits[0] + limits[1]) / 2
    about = Mean(mean, math.sqrt(variance), m, third, half, max(1, m - 2), middle)
    low, high = about.interval() if paired else interval_of_few(about, bounded)
    return min(max(low, limits[0]), limits[1]), max(min(high, limits[1]), limits[0])


def _no_help(labels: int, r: float | None, interval: tuple[float, float] | None, gain: float) -> str | None:
    """Why a judge is no help; None where it is."""
    if labels < FEWEST_LABELS:
        return f"{labels} labels are too few to tell what the judge is worth ({FEWEST_LABELS} are needed)"
    if r is None or interval is None:
        return "the judge's verdicts or the labels are all the same"
    if interval[0] <= 0:
        low, high = interval
        return f"the judge adds nothing: its correlation with the labels is {r:.2f} [{low:.2f}, {high:.2f}]"
    return None if gain > 1 else "the judge adds nothing: with it the standard error is no smaller"


def _central(values: Sequence[float], power: int) -> float:
    mean = fmean(values)
    return math.fsum((x - mean) ** power for x in values) / len(values)


def _correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's correlation; None where either is constant."""
    one, other = fmean(first), fmean(second)
    squares = math.fsum((x - one) ** 2 for x in first) * math.fsum((y - other) ** 2 for y in second)
    if squares == 0:
        return None
    products = math.fsum((x - one) * (y - other) for x, y in zip(first, second, strict=True))
    return max(-1.0, min(1.0, products / math.sqrt(squares)))


def _fisher(r: float, n: int) -> tuple[float, float] | None:
    if n < 4:
        return None
    z, reach = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, r))), NormalDist().inv_cdf(0.975) / math.sqrt(n - 3)
    return math.tanh(z - reach), math.tanh(z + reach)
