"""Whether a row's figures follow from its outcomes: no board with a figure that its own outcomes contradict is read.

Values, counts and standard errors are computed again and must agree as far as they are written: a file may hold figures
rounded to what tables show. An interval is drawn at random, and must be one that a bootstrap of the outcomes can give.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev

from harness.boards.catalog import Figures
from harness.boards.entry import BoardRow, Entry
from harness.components import benchmark_class
from harness.figures import HELDOUT, MARGIN, MARGIN_KEPT, TRAINED_MARGIN, Figure
from harness.stats.paired import prompt_of
from harness.stats.plausible import bootstrap_ends, wilson
from harness.types import Metric

LARGEST = 1e12
"""Of any figure, outcome or count."""
LONGEST_NAME = 1000
"""Characters of an id, a method or a metric."""
FEWEST_FOR_WIDTH = 5
WIDTHS = (0.4, 2.2)
"""An interval's half width over 1.96 standard errors: its range for skewed values and few prompts too."""
RESAMPLES_ROUNDED = 1e-4
"""Resamples are written with four decimals, what is computed from them with all."""

Outcomes = Mapping[str, float | None]
_Check = Callable[[Metric, Figure], str | None]


def unreasonable(row: BoardRow) -> str | None:
    """What can't be right in a row's names and figures, whatever its outcomes are."""
    figures = Figures([row])
    return _unreasonable(row, figures, [_impossible, _unlike_its_interval]) or _unlike_margins(row, figures)


def _unreasonable(row: BoardRow, figures: Figures, checks: Sequence[_Check]) -> str | None:
    for name in (row.id, row.method, *row.metrics):
        if len(name) > LONGEST_NAME:
            return f"a name of {len(name):,} characters ({name[:40]!r}…); expected at most {LONGEST_NAME:,}"
    for check in checks:
        for name, metric in row.metrics.items():
            if problem := check(metric, figures[name]):
                return f"metrics.{name}: {problem}"
    return None


def _impossible(metric: Metric, figure: Figure) -> str | None:
    low, high = metric.ci95 or (0.0, 0.0)
    numbers = [x for x in (metric.value, metric.stderr, low, high) if x is not None]
    if not all(abs(x) <= LARGEST for x in numbers) or not all(0 <= x <= LARGEST for x in (metric.n, metric.n_invalid)):
        return f"a figure beyond {LARGEST:g}, or a negative count"
    if low > high or (metric.stderr or 0) < 0:
        return "an interval that ends before it begins, or a negative standard error"
    if metric.value is None and (metric.stderr is not None or metric.ci95 is not None):
        return "uncertainty without a value"
    if figure.limits is not None:
        least, most = figure.limits
        ends = [x for x in (metric.value, *(metric.ci95 or ())) if x is not None]
        if any(not _within(x, (least, most)) for x in ends):
            return f"{next(x for x in ends if not _within(x, (least, most))):g} is out of range, {least:g} to {most:g}"
    return None


def _unlike_its_interval(metric: Metric, figure: Figure) -> str | None:
    """How a value and its uncertainty contradict each other. This is all that can be said of figures that don't follow
    from outcomes: lengths, shares of cut answers, Kendall's tau, errors of categories."""
    if metric.value is None or metric.ci95 is None or not _has_plain_means(figure.benchmark):
        return None
    low, high = metric.ci95
    slack = 0.5 * (high - low) + 10.0**-figure.decimals  # a length is cut to a whole number
    if not low - slack <= metric.value <= high + slack:
        return f"{metric.value:g}, far from its interval of {low:g} to {high:g}"
    if metric.stderr and metric.n >= FEWEST_FOR_WIDTH:
        width = (high - low) / (2 * 1.96 * metric.stderr)
        if not WIDTHS[0] <= width <= WIDTHS[1]:
            return f"an interval of {low:g} to {high:g} with a standard error of {metric.stderr:g}"
    return None


def contradiction(entry: Entry) -> str | None:
    """How a row's figures contradict its outcomes, in one line; None where they follow from them."""
    figures = Figures([entry])
    if problem := _unreasonable(entry, figures, [_impossible]):
        return problem
    for group, outcomes in entry.outcomes.items():
        declared = [figure for figure in figures.all if figure.benchmark == group]
        if problem := _out_of_range(outcomes, declared):
            return f"outcomes.{group}.{problem}"
    # The figures that everybody looks at first.
    for name, metric in sorted(entry.metrics.items(), key=lambda item: not figures[item[0]].compared):
        figure = figures[name]
        outcomes = entry.outcomes.get(figure.benchmark, {})
        problem = _unlike_resamples(metric, entry, figure) or _unlike_outcomes(metric, outcomes, figure, entry)
        if problem:
            return f"metrics.{name}: {problem}"
    problem = _unlike_parts(entry, figures) or _unlike_margins(entry, figures)
    return problem or _unreasonable(entry, figures, [_unlike_its_interval])


def _out_of_range(outcomes: Outcomes, figures: Sequence[Figure]) -> str | None:
    """The first outcome that gives a figure a value outside of its limits."""
    for key, value in outcomes.items():
        if value is not None and not abs(value) <= LARGEST:
            return f"{key[:60]}: {value:g} is no outcome"
    for figure in figures:
        if figure.limits is None or figure.pairing is None or figure.pairing.kind != "mean":
            continue
        for key, of_prompt in figure.pairing.of_each(outcomes).items():
            if of_prompt is not None and not _within(of_prompt, figure.limits):
                low, high = figure.limits
                return (
                    f"{key[:60]}: {outcomes[key]:g} is out of range: "
                    f"it gives a {figure.title} of {of_prompt:g}, expected {low:g} to {high:g}"
                )
    return None


def _within(value: float, limits: tuple[float, float]) -> bool:
    slack = 1e-9 * max(1.0, *map(abs, limits))
    return limits[0] - slack <= value <= limits[1] + slack


def _unlike_outcomes(metric: Metric, outcomes: Outcomes, figure: Figure, entry: Entry) -> str | None:
    if figure.counted is None and figure.pairing is None:
        return None
    if not outcomes:
        # A public leaderboard has no outcomes to publish; boards say of such rows that nothing can be checked.
        missing = (metric.value is not None or metric.n > 0) and entry.provenance.public is None
        return f"{_text(metric.value)}, without any outcomes of {figure.benchmark}" if missing else None
    if figure.counted is not None:
        return _unlike_count(metric, outcomes, figure.counted)
    assert figure.pairing is not None
    raw_missing = sum(value is None for value in outcomes.values())
    if figure.pairing.kind == "resamples":
        return _unlike_counts(metric, len(outcomes) - raw_missing, {raw_missing})
    values = figure.pairing.values(outcomes)
    scored = {key: value for key, value in values.items() if value is not None}
    unit = 0.01 if figure.difference_unit else 1.0  # its differences, not the figure, are in percent points
    value = unit * fmean(scored.values()) if scored else None
    if not _agree(metric.value, value, figure.decimals):
        return f"{_text(metric.value)}, but its {len(scored):,} scored outcomes give {_text(value)}"
    if not _has_plain_means(figure.benchmark):
        return None
    of_turn = figure.pairing.of_each(outcomes).values()
    missing_counts = {sum(v is None for v in of_turn), len(values) - len(scored)}
    return _unlike_counts(metric, len(scored), missing_counts) or _unlike_spread(metric, scored, unit, figure)


def _has_plain_means(benchmark: str) -> bool:
    return benchmark == HELDOUT or benchmark_class(benchmark).has_plain_means()


def _unlike_count(metric: Metric, outcomes: Outcomes, counted: tuple[str, float]) -> str | None:
    side, value = counted
    scored = [x for x in outcomes.values() if x is not None]
    count = sum(x > value if side == "above" else x < value if side == "below" else x == value for x in scored)
    if scored and metric.value is not None and metric.value != count:
        return f"{_text(metric.value)}, but its outcomes give {count:,}"
    return _unlike_counts(metric, len(scored), {len(outcomes) - len(scored)})


def _unlike_counts(metric: Metric, n: int, missing: set[int]) -> str | None:
    if metric.n == n and metric.n_invalid in missing:
        return None
    counts = f"n={metric.n:,} and n_invalid={metric.n_invalid:,}"
    return f"{counts}, but of its outcomes {n:,} are scored and {max(missing):,} are not"


def _unlike_spread(metric: Metric, scored: Outcomes, unit: float, figure: Figure) -> str | None:
    """How the standard error and the interval differ from those of the scored values."""
    by_prompt: dict[str, list[float]] = {}
    for key, value in scored.items():
        by_prompt.setdefault(prompt_of(key), []).append(unit * (value or 0.0))
    prompts = [(math.fsum(values), len(values)) for values in by_prompt.values()]
    n, count = len(prompts), len(scored)
    if n == 0:
        return None
    mean = math.fsum(total for total, _ in prompts) / count
    residuals = math.fsum((total - size * mean) ** 2 for total, size in prompts)
    stderr = math.sqrt(n / (n - 1) * residuals) / count if n > 1 else None
    if metric.stderr is not None and not _agree(metric.stderr, stderr, figure.decimals):
        return f"a standard error of {_text(metric.stderr)}, but its outcomes give {_text(stderr)}"
    if metric.ci95 is None:
        return None
    ranges = [bootstrap_ends(prompts)] if n > 1 else []
    if figure.pairing is not None and figure.pairing.kind == "share" and n == count:
        largest = unit * figure.pairing.scale
        low, high = wilson(mean / largest, count)
        ranges.append(((largest * low,) * 2, (largest * high,) * 2))
    for ends in ranges:
        slacks = [_slack(x, figure.decimals) for x in metric.ci95]
        if all(low - s <= x <= high + s for x, s, (low, high) in zip(metric.ci95, slacks, ends, strict=True)):
            return None
    low, high = metric.ci95
    return f"an interval of {low:g} to {high:g}, which its outcomes can't give: their mean is {mean:g} on {n:,} prompts"


def _unlike_resamples(metric: Metric, entry: Entry, figure: Figure) -> str | None:
    """How a figure that is not a mean over prompts differs from what its resamples say."""
    resamples = entry.resamples.get(figure.metric)
    if figure.pairing is None or figure.pairing.kind != "resamples" or resamples is None:
        return None
    limits = figure.limits or (-LARGEST, LARGEST)
    if metric.value is None or len(resamples) < 2 or not all(_within(x, limits) for x in resamples):
        return f"resamples that are too few, out of range ({limits[0]:g} to {limits[1]:g}), or of no value"
    ordered, spread = sorted(resamples), stdev(resamples)
    if not ordered[0] - 0.25 * spread - 1e-9 <= metric.value <= ordered[-1] + 0.25 * spread + 1e-9:
        return f"{metric.value:g}, outside of its own resamples ({ordered[0]:g} to {ordered[-1]:g})"
    if metric.stderr is not None and abs(metric.stderr - spread) > RESAMPLES_ROUNDED:
        return f"a standard error of {metric.stderr:g}, but its resamples give {spread:g}"
    for x, share in zip(metric.ci95 or (), (0.025, 0.975), strict=False):
        if abs(x - percentile(ordered, share)) > RESAMPLES_ROUNDED:
            return f"an interval that ends at {x:g}, but its resamples give {percentile(ordered, share):g}"
    return None


def percentile(ordered: Sequence[float], share: float) -> float:
    """A percentile of sorted values, interpolated as numpy does by default."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _unlike_parts(entry: Entry, figures: Figures) -> str | None:
    """How the parts of a figure (categories) contradict the whole."""
    parts: dict[str, list[Metric]] = {}
    for name, metric in entry.metrics.items():
        if (whole := figures[name].part_of) is not None and metric.value is not None:
            parts.setdefault(whole, []).append(metric)
    for name, metrics in parts.items():
        whole_metric = entry.metrics.get(name)
        if whole_metric is None or whole_metric.value is None:
            return f"metrics.{name}: it is missing, but {len(metrics)} parts of it are not"
        figure, n = figures[name], sum(metric.n for metric in metrics)
        limits, rest = figure.limits or (-LARGEST, LARGEST), whole_metric.n - n
        difference = whole_metric.n * whole_metric.value - math.fsum(m.n * (m.value or 0.0) for m in metrics)
        slack = math.fsum(m.n * _slack(m.value or 0.0, figure.decimals) for m in (whole_metric, *metrics))
        fits = abs(difference) <= slack if rest == 0 else rest > 0 and _within(difference / rest, limits)
        if not fits:
            return f"metrics.{name}: {whole_metric.value:g} on n={whole_metric.n:,} is not the mean of its categories"
    return None


def _unlike_margins(row: BoardRow, figures: Figures) -> str | None:
    """How the share of the margin that a row kept differs from its margin over that of what was trained."""
    kept, margin, trained = (row.metrics.get(name) for name in (MARGIN_KEPT, MARGIN, TRAINED_MARGIN))
    if kept is None or kept.value is None:
        return None
    if margin is None or margin.value is None or kept.n != margin.n or (trained is not None and trained.n != margin.n):
        return f"metrics.{MARGIN_KEPT}: {kept.value:g} on n={kept.n:,}, without margins of as many pairs"
    if trained is None or trained.value is None:
        return (
            None if kept.value == 1 else f"metrics.{MARGIN_KEPT}: {kept.value:g} without {TRAINED_MARGIN}; expected 1"
        )
    of_kept, of_trained = (
        _slack(kept.value, figures[MARGIN_KEPT].decimals),
        _slack(trained.value, figures[TRAINED_MARGIN].decimals),
    )
    slack = _slack(margin.value, figures[MARGIN].decimals) + abs(trained.value) * of_kept + abs(kept.value) * of_trained
    if abs(kept.value * trained.value - margin.value) <= slack:
        return None
    return f"metrics.{MARGIN_KEPT}: {kept.value:g} is not {margin.value:g} of {trained.value:g} nats"


def _agree(written: float | None, computed: float | None, decimals: int) -> bool:
    """Whether a figure is the computed one, or that rounded to at least as many decimals as tables show."""
    if written is None or computed is None:
        return written is computed
    return abs(written - computed) <= _slack(written, decimals)


def _slack(written: float, decimals: int) -> float:
    """How far a written figure may be from the computed one."""
    return min(_rounding(written), 0.5 * 10.0**-decimals) + 1e-9 * max(1.0, abs(written))


def _rounding(written: float) -> float:
    """Half a unit of the last decimal that a number is written with."""
    mantissa, _, exponent = repr(float(written)).partition("e")
    return 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2])) * (1 + 1e-6)


def _text(value: float | None) -> str:
    return "no value" if value is None else f"{value:g}"
