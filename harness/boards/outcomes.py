"""Outcomes per prompt in a figure's unit, and the paired comparisons of rows by them."""

from collections.abc import Sequence

from harness.boards.catalog import Figures
from harness.boards.entry import Entry, comparable
from harness.figures import Figure
from harness.stats.bradley_terry import Strength, strengths
from harness.stats.paired import Comparison, compare, compare_resamples, holm

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
                by_metric.setdefault(figure.metric, {}).update(strengths(by_row))
    return {metric: by_row for metric, by_row in by_metric.items() if by_row}


def _means(rows: Sequence[Entry], figure: Figure) -> list[Comparison]:
    by_row = {entry.id: outcomes for entry in rows if (outcomes := figure_values(entry, figure))}
    return compare(by_row) if len(by_row) > 1 else []


def has_resamples(entry: Entry, figure: Figure) -> bool:
    """Whether a figure that is not a mean over prompts can be compared: it was computed from all verdicts and has
    resamples."""
    scored = entry.outcomes.get(figure.benchmark, {})
    metric = entry.metrics.get(figure.metric)
    complete = bool(scored) and None not in scored.values() and metric is not None and metric.value is not None
    return complete and bool(entry.resamples.get(figure.metric))


def _resampled(rows: Sequence[Entry], figure: Figure) -> list[Comparison]:
    """Comparisons by the figure in the same resamples of the same prompts, for rows with all verdicts."""
    metric = figure.metric
    complete = [entry for entry in rows if has_resamples(entry, figure)]
    pairs = []
    for i, first in enumerate(complete):
        for second in complete[i + 1 :]:
            keys = [tuple(e.outcomes[figure.benchmark]) for e in (first, second)]
            resamples = first.resamples[metric], second.resamples[metric]
            if set(keys[0]) == set(keys[1]) and len(resamples[0]) == len(resamples[1]):
                figures = float(first.metrics[metric].value or 0), float(second.metrics[metric].value or 0)
                pairs.append(compare_resamples(first.id, second.id, figures, resamples, len(keys[0])))
    return [c.model_copy(update={"adjusted_p": p}) for c, p in zip(pairs, holm([c.p for c in pairs]), strict=True)]
