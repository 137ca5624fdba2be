"""Whether a row's figures follow from its outcomes: no board with a figure that its own outcomes contradict is read.

Values and counts are computed again and must agree as far as they are written: a file may hold figures rounded to what
tables show. Standard errors and intervals: `harness.boards.uncertainty`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from harness.boards.catalog import Figures
from harness.boards.entry import BoardRow, Entry
from harness.boards.uncertainty import LARGEST, Outcomes, agree, slack, text, unlike_resamples, unlike_spread, within
from harness.components import benchmark_class
from harness.figures import HELDOUT, MARGIN, MARGIN_KEPT, TRAINED_MARGIN, Figure
from harness.stats.paired import prompt_of
from harness.types import Metric

LONGEST_NAME = 1000
"""Characters of an id, a method or a metric."""
FEWEST_FOR_WIDTH = 5
WIDTHS = (0.4, 2.2)
"""An interval's half width over 1.96 standard errors: its range for skewed values and few prompts too."""
UNSEEN = 4
"""Prompts at the end of a figure's range that may widen an interval beyond that."""

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
        if any(not within(x, (least, most)) for x in ends):
            return f"{next(x for x in ends if not within(x, (least, most))):g} is out of range, {least:g} to {most:g}"
    return None


def _unlike_its_interval(metric: Metric, figure: Figure) -> str | None:
    """How a value and its uncertainty contradict each other. This is all that can be said of figures that don't follow
    from outcomes: lengths, shares of cut answers, Kendall's tau, errors of categories."""
    if metric.value is None or metric.ci95 is None or not _has_plain_means(figure.benchmark):
        return None
    low, high = metric.ci95
    room = 0.5 * (high - low) + 10.0**-figure.decimals  # a length is cut to a whole number
    if not low - room <= metric.value <= high + room:
        return f"{metric.value:g}, far from its interval of {low:g} to {high:g}"
    if metric.stderr and metric.n >= FEWEST_FOR_WIDTH:
        half, usual = 0.5 * (high - low), 1.96 * metric.stderr
        # Intervals of few prompts count what was not seen, of which a prompt's share is a range / n.
        unseen = 0.0 if figure.limits is None else UNSEEN * (figure.limits[1] - figure.limits[0]) / metric.n
        # A penalised regression gives nearly all resamples of few prompts one value, and a few others values far away:
        # then their percentiles are close together, and their spread is not. `unlike_resamples` computes both again.
        from_resamples = figure.pairing is not None and figure.pairing.kind == "resamples"
        least = 0.0 if from_resamples else WIDTHS[0]
        if not least * usual <= half <= WIDTHS[1] * usual + unseen:
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
        problem = unlike_resamples(metric, entry, figure) or _unlike_outcomes(metric, outcomes, figure, entry)
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
            if of_prompt is not None and not within(of_prompt, figure.limits):
                low, high = figure.limits
                return (
                    f"{key[:60]}: {outcomes[key]:g} is out of range: "
                    f"it gives a {figure.title} of {of_prompt:g}, expected {low:g} to {high:g}"
                )
    return None


def _unlike_outcomes(metric: Metric, outcomes: Outcomes, figure: Figure, entry: Entry) -> str | None:
    if figure.counted is None and figure.pairing is None:
        return None
    if not outcomes:
        # A public leaderboard has no outcomes to publish; boards say of such rows that nothing can be checked.
        missing = (metric.value is not None or metric.n > 0) and entry.provenance.public is None
        return f"{text(metric.value)}, without any outcomes of {figure.benchmark}" if missing else None
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
    if not agree(metric.value, value, figure.decimals):
        return f"{text(metric.value)}, but its {len(scored):,} scored outcomes give {text(value)}"
    if not _has_plain_means(figure.benchmark):
        return None
    of_turn = figure.pairing.of_each(outcomes).values()
    missing_counts = {sum(v is None for v in of_turn), len(values) - len(scored)}
    prompts = len({prompt_of(key) for key in scored})  # older boards count turns
    n = prompts if metric.n == prompts else len(scored)
    return _unlike_counts(metric, n, missing_counts) or unlike_spread(metric, scored, unit, figure, entry)


def _has_plain_means(benchmark: str) -> bool:
    return benchmark == HELDOUT or benchmark_class(benchmark).has_plain_means()


def _unlike_count(metric: Metric, outcomes: Outcomes, counted: tuple[str, float]) -> str | None:
    side, value = counted
    scored = [x for x in outcomes.values() if x is not None]
    count = sum(x > value if side == "above" else x < value if side == "below" else x == value for x in scored)
    if scored and metric.value is not None and metric.value != count:
        return f"{text(metric.value)}, but its outcomes give {count:,}"
    return _unlike_counts(metric, len(scored), {len(outcomes) - len(scored)})


def _unlike_counts(metric: Metric, n: int, missing: set[int]) -> str | None:
    if metric.n == n and metric.n_invalid in missing:
        return None
    counts = f"n={metric.n:,} and n_invalid={metric.n_invalid:,}"
    return f"{counts}, but of its outcomes {n:,} are scored and {max(missing):,} are not"


def _unlike_parts(entry: Entry, figures: Figures) -> str | None:
    """How the parts of a figure (categories) contradict the whole, or their own prompts' outcomes."""
    parts: dict[str, dict[str, Metric]] = {}
    for name, metric in entry.metrics.items():
        if (whole := figures[name].part_of) is not None and metric.value is not None:
            parts.setdefault(whole, {})[name] = metric
    for name, metrics in parts.items():
        whole_metric = entry.metrics.get(name)
        if whole_metric is None or whole_metric.value is None:
            return f"metrics.{name}: it is missing, but {len(metrics)} parts of it are not"
        if strata := entry.strata.get(figures[name].benchmark):
            if problem := _unlike_strata(entry, metrics, strata, figures):
                return problem
        elif not _is_mean_of(whole_metric, list(metrics.values()), figures[name], entry):
            return f"metrics.{name}: {whole_metric.value:g} on n={whole_metric.n:,} is not the mean of its categories"
    return None


def _unlike_strata(
    entry: Entry, metrics: Mapping[str, Metric], strata: Mapping[str, str], figures: Figures
) -> str | None:
    """How figures by category differ from what the outcomes of the category's prompts give."""
    for name, metric in metrics.items():
        figure = figures[name]
        outcomes = entry.outcomes.get(figure.benchmark, {})
        of_part = {key: value for key, value in outcomes.items() if strata.get(prompt_of(key)) == figure.name}
        pairing = figures[str(figure.part_of)].pairing
        if problem := _unlike_outcomes(metric, of_part, figure.model_copy(update={"pairing": pairing}), entry):
            return f"metrics.{name}: {problem}"
    return None


def _is_mean_of(whole: Metric, parts: Sequence[Metric], figure: Figure, entry: Entry) -> bool:
    """Whether a mean can be that of its parts, each weighed by its n, on boards that don't say which prompts are whose.
    Not every prompt is in a part."""
    limits, rest = figure.limits or (-LARGEST, LARGEST), whole.n - sum(part.n for part in parts)
    difference = whole.n * (whole.value or 0.0) - math.fsum(part.n * (part.value or 0.0) for part in parts)
    room = math.fsum(metric.n * slack(metric.value or 0.0, figure.decimals) for metric in (whole, *parts))
    scored = sum(value is not None for value in entry.outcomes.get(figure.benchmark, {}).values())
    if whole.n < scored:
        # Prompts were counted, not turns: one that lacks a turn weighs half a prompt less than it counts.
        room += 0.5 * whole.n_invalid * (limits[1] - limits[0])
    return abs(difference) <= room if rest == 0 else rest > 0 and within(difference / rest, limits)


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
    of_kept = slack(kept.value, figures[MARGIN_KEPT].decimals)
    of_trained = slack(trained.value, figures[TRAINED_MARGIN].decimals)
    room = slack(margin.value, figures[MARGIN].decimals) + abs(trained.value) * of_kept + abs(kept.value) * of_trained
    if abs(kept.value * trained.value - margin.value) <= room:
        return None
    return f"metrics.{MARGIN_KEPT}: {kept.value:g} is not {margin.value:g} of {trained.value:g} nats"
