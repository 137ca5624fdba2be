"""Whether standard errors, intervals and resamples follow from a row's outcomes, and how figures are compared at all.

Standard errors are computed again and must agree as far as they are written. An interval is one that can be computed
again, exactly, or one that was drawn at random, and must then be one that a bootstrap of the outcomes can give. Older
boards count turns instead of prompts, know no strata and have other intervals for few prompts: these follow too.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from statistics import stdev

from harness.boards.entry import Entry
from harness.figures import Figure
from harness.stats.bounds import Mean, mean_of
from harness.stats.intervals import interval_of_few, interval_of_few_resamples, merged
from harness.stats.paired import prompt_of
from harness.stats.plausible import Range, bootstrap_ends
from harness.stats.proportions import clopper_pearson, wilson
from harness.types import Metric

LARGEST = 1e12
"""Of any figure, outcome or count."""
RESAMPLES_ROUNDED = 1e-4
"""Resamples are written with four decimals, what is computed from them with all."""
BOUNDS_ROUNDED = 1e-3
"""The same for an interval from their moments."""

Outcomes = Mapping[str, float | None]
Prompts = Sequence[tuple[float, int]]
"""(sum of the values, number of values) of each prompt."""


def unlike_spread(metric: Metric, scored: Outcomes, unit: float, figure: Figure, entry: Entry) -> str | None:
    """How the standard error and the interval differ from those of the scored values, which are in the unit of the
    figure's differences: `unit` times them in its own."""
    by_prompt: dict[str, list[float]] = {}
    for key, value in scored.items():
        by_prompt.setdefault(prompt_of(key), []).append(unit * (value or 0.0))
    prompts = [(math.fsum(values), len(values)) for values in by_prompt.values()]
    n = len(prompts)
    if n == 0:
        return None
    labels = entry.strata.get(figure.benchmark)
    strata = merged([labels.get(prompt, "") for prompt in by_prompt]) if labels and n > 1 else None
    means = _means(prompts, strata)
    stderrs: list[float | None] = [m.stderr for m in means] or [None]
    if metric.stderr is not None and not any(agree(metric.stderr, x, figure.decimals) for x in stderrs):
        return f"a standard error of {text(metric.stderr)}, but its outcomes give {text(stderrs[-1])}"
    if metric.ci95 is None:
        return None
    slacks = [slack(x, figure.decimals) for x in metric.ci95]
    for ends in _possible_ends(prompts, strata, means, unit, figure):
        if all(low - s <= x <= high + s for x, s, (low, high) in zip(metric.ci95, slacks, ends(), strict=True)):
            return None
    (low, high), mean = metric.ci95, math.fsum(total for total, _ in prompts) / sum(size for _, size in prompts)
    return f"an interval of {low:g} to {high:g}, which its outcomes can't give: their mean is {mean:g} on {n:,} prompts"


def _means(prompts: Prompts, strata: Sequence[Hashable] | None) -> list[Mean]:
    """The mean over prompts, without strata and with them; none for a single prompt."""
    n, count = len(prompts), sum(size for _, size in prompts)
    if n < 2:
        return []
    mean = math.fsum(total for total, _ in prompts) / count
    values = [mean + n / count * (total - size * mean) for total, size in prompts]
    return [mean_of(values, None)] + ([] if strata is None else [mean_of(values, None, 0.0, strata)])


def _possible_ends(
    prompts: Prompts, strata: Sequence[Hashable] | None, means: Sequence[Mean], unit: float, figure: Figure
) -> Iterator[Callable[[], tuple[Range, Range]]]:
    """The ranges of the ends of each interval that can stand, each computed when it is asked for."""
    if means:
        yield lambda: bootstrap_ends(prompts)
    if means and strata is not None:
        yield lambda: bootstrap_ends(prompts, strata)
    for mean in means:
        yield lambda mean=mean: _exactly(interval_of_few(mean, figure.limits))  # type: ignore[misc]
    count = sum(size for _, size in prompts)
    if figure.pairing is not None and figure.pairing.kind == "share" and len(prompts) == count:
        largest = unit * figure.pairing.scale
        share = min(1.0, max(0.0, math.fsum(total for total, _ in prompts) / count / largest))
        for interval in (wilson, clopper_pearson):
            yield lambda interval=interval: _exactly(interval(share, count), largest)  # type: ignore[misc]


def _exactly(interval: tuple[float, float], scale: float = 1.0) -> tuple[Range, Range]:
    low, high = (scale * end for end in interval)
    return (low, low), (high, high)


def unlike_resamples(metric: Metric, entry: Entry, figure: Figure) -> str | None:
    """How a figure that is not a mean over prompts differs from what its resamples say."""
    resamples = entry.resamples.get(figure.metric)
    if figure.pairing is None or figure.pairing.kind != "resamples" or resamples is None:
        return None
    limits = figure.limits or (-LARGEST, LARGEST)
    if metric.value is None or len(resamples) < 2 or not all(within(x, limits) for x in resamples):
        return f"resamples that are too few, out of range ({limits[0]:g} to {limits[1]:g}), or of no value"
    ordered, spread = sorted(resamples), stdev(resamples)
    room = 0.25 * spread + RESAMPLES_ROUNDED  # where all verdicts are alike, they differ by their rounding alone
    if not ordered[0] - room <= metric.value <= ordered[-1] + room:
        return f"{metric.value:g}, outside of its own resamples ({ordered[0]:g} to {ordered[-1]:g})"
    if metric.stderr is not None and abs(metric.stderr - spread) > RESAMPLES_ROUNDED:
        return f"a standard error of {metric.stderr:g}, but its resamples give {spread:g}"
    if metric.ci95 is None or _has_bounds_of(metric, resamples, figure):
        return None
    for x, share in zip(metric.ci95, (0.025, 0.975), strict=True):
        if abs(x - percentile(ordered, share)) > RESAMPLES_ROUNDED:
            return f"an interval that ends at {x:g}, but its resamples give {percentile(ordered, share):g}"
    return None


def _has_bounds_of(metric: Metric, resamples: Sequence[float], figure: Figure) -> bool:
    """Whether an interval is the one for few prompts."""
    if metric.value is None or metric.ci95 is None or figure.limits is None or metric.n < 2:
        return False
    ends = interval_of_few_resamples(metric.value, resamples, metric.n, figure.limits)
    return all(abs(x - end) <= BOUNDS_ROUNDED for x, end in zip(metric.ci95, ends, strict=True))


def percentile(ordered: Sequence[float], share: float) -> float:
    """A percentile of sorted values, interpolated as numpy does by default."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def within(value: float, limits: tuple[float, float]) -> bool:
    """Whether a value lies between limits, up to rounding."""
    room = 1e-9 * max(1.0, *map(abs, limits))
    return limits[0] - room <= value <= limits[1] + room


def agree(written: float | None, computed: float | None, decimals: int) -> bool:
    """Whether a figure is the computed one, or that rounded to at least as many decimals as tables show."""
    if written is None or computed is None:
        return written is computed
    return abs(written - computed) <= slack(written, decimals)


def slack(written: float, decimals: int) -> float:
    """How far a written figure may be from the computed one."""
    return min(_rounding(written), 0.5 * 10.0**-decimals) + 1e-9 * max(1.0, abs(written))


def _rounding(written: float) -> float:
    """Half a unit of the last decimal that a number is written with."""
    mantissa, _, exponent = repr(float(written)).partition("e")
    return 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2])) * (1 + 1e-6)


def text(value: float | None) -> str:
    """A figure in a message."""
    return "no value" if value is None else f"{value:g}"
