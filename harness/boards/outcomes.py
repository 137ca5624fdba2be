"""Outcomes per prompt in a figure's unit, and the paired comparisons of rows by them."""

from collections.abc import Callable, Sequence

from harness.boards.catalog import Figures
from harness.boards.entry import Entry, comparable
from harness.figures import HELDOUT, Figure
from harness.stats.bradley_terry import Strength, strengths
from harness.stats.paired import Comparison, compare, compare_resamples, holm

MOST_MISSING = 0.05
"""The share of verdicts that a row may lack and still be compared by a figure that is not a mean over prompts."""
MOST_ELO = 20
"""Rows up to which Bradley-Terry strengths are fitted."""


def figure_values(entry: Entry, figure: Figure) -> dict[str, float | None]:
    """The figure's values by prompt (`id/turn` where there are turns), in its unit; None where not scored. Empty where
    the row has none or the figure is not a mean over prompts."""
    if figure.metric not in entry.metrics or figure.pairing is None:
        return {}
    return figure.pairing.values(entry.outcomes.get(figure.benchmark, {}))


def paired_comparisons(entries: Sequence[Entry]) -> dict[str, list[Comparison]]:
    """All pairs of rows within each table, by metric, with Holm's correction over the metric's pairs."""
    by_metric: dict[str, list[Comparison]] = {}
    for rows in comparable(entries):
        for figure in Figures(rows).compared:
            resampled = figure.pairing is not None and figure.pairing.kind == "resamples"
            pairs = _resampled(rows, figure) if resampled else _means(rows, figure)
            if pairs:
                by_metric.setdefault(figure.metric, []).extend(pairs)
    order = [figure.metric for figure in Figures(entries).compared]
    return {metric: by_metric[metric] for metric in order if metric in by_metric}


def elo(entries: Sequence[Entry]) -> dict[str, dict[str, Strength]]:
    """Bradley-Terry strengths within each table, by metric and row, for the figures declared `rated`. Tables of two
    rows, or of more than MOST_ELO, have none."""
    by_metric: dict[str, dict[str, Strength]] = {}
    for rows in comparable(entries):
        for figure in (figure for figure in Figures(rows).compared if figure.rated):
            by_row = {entry.id: outcomes for entry in rows if (outcomes := figure_values(entry, figure))}
            if 2 < len(by_row) <= MOST_ELO:
                by_metric.setdefault(figure.metric, {}).update(strengths(by_row, figure.reach))
    return {metric: by_row for metric, by_row in by_metric.items() if by_row}


def able_rows(rows: Sequence[Entry], figure: Figure) -> list[Entry]:
    """The rows that can be compared by a figure. On held-out pairs an untrained policy is a constant, zero by
    definition, and no opponent."""
    if figure.benchmark != HELDOUT:
        return list(rows)
    return [entry for entry in rows if any(entry.outcomes.get(HELDOUT, {}).values())]


def strata_of(rows: Sequence[Entry], figure: Figure) -> dict[str, str] | None:
    """Each prompt's category, where the benchmark asks a fixed number of each; None where it does not."""
    return next((strata for entry in rows if (strata := entry.strata.get(figure.benchmark))), None)


def pair_compared(
    first: Entry, second: Entry, figure: Figure, values: Callable[[Entry], dict[str, float | None]]
) -> Comparison | None:
    """Two rows by one figure; None where they share too little. `values`: a row's by prompt."""
    if figure.pairing is not None and figure.pairing.kind == "resamples":
        return _pair_resampled(first, second, figure)
    rows = {first.id: values(first), second.id: values(second)}
    compared = compare(rows, reach=figure.reach, strata=strata_of([first, second], figure))
    return compared[0] if compared else None


def _means(rows: Sequence[Entry], figure: Figure) -> list[Comparison]:
    by_row = {entry.id: outcomes for entry in able_rows(rows, figure) if (outcomes := figure_values(entry, figure))}
    return compare(by_row, reach=figure.reach, strata=strata_of(rows, figure)) if len(by_row) > 1 else []


def has_resamples(entry: Entry, figure: Figure) -> bool:
    """Whether a figure that is not a mean over prompts can be compared: it was computed from nearly all verdicts, and
    has resamples."""
    outcomes = entry.outcomes.get(figure.benchmark, {})
    missing = sum(value is None for value in outcomes.values())
    metric = entry.metrics.get(figure.metric)
    computed = metric is not None and metric.value is not None and bool(entry.resamples.get(figure.metric))
    return computed and bool(outcomes) and missing <= MOST_MISSING * len(outcomes)


def _pair_resampled(first: Entry, second: Entry, figure: Figure) -> Comparison | None:
    """A comparison by the figure in the same resamples of the same prompts."""
    metric = figure.metric
    ours, theirs = (entry.outcomes[figure.benchmark] for entry in (first, second))
    resamples = first.resamples[metric], second.resamples[metric]
    if ours.keys() != theirs.keys() or len(resamples[0]) != len(resamples[1]):
        return None
    values = float(first.metrics[metric].value or 0), float(second.metrics[metric].value or 0)
    scored = sum(value is not None and theirs[key] is not None for key, value in ours.items())
    compared = compare_resamples(first.id, second.id, values, resamples, scored, figure.reach or 0.0)
    return compared.model_copy(update={"left_out": len(ours) - scored})


def _resampled(rows: Sequence[Entry], figure: Figure) -> list[Comparison]:
    complete = [entry for entry in rows if has_resamples(entry, figure)]
    pairs = [
        compared
        for i, first in enumerate(complete)
        for second in complete[i + 1 :]
        if (compared := _pair_resampled(first, second, figure)) is not None
    ]
    return [c.model_copy(update={"adjusted_p": p}) for c, p in zip(pairs, holm([c.p for c in pairs]), strict=True)]
