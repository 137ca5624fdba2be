"""A board's figures with gold verdicts on a random part of its prompts: the judge's verdicts, corrected."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from harness.boards.catalog import Figures
from harness.boards.entry import Entry
from harness.boards.gold.verdicts import GoldVerdict
from harness.boards.outcomes import figure_values
from harness.boards.provenance import Provenance
from harness.errors import DataError, nearest, quoted
from harness.figures import Figure
from harness.stats.paired import prompt_of
from harness.stats.ppi import Corrected, corrected_difference, corrected_rate
from harness.types import Metric

PREFIX = "gold_"
"""What the name of a corrected figure begins with: `alpaca_eval.gold_win_rate`."""
Values = dict[str, float | None]


class GoldEstimate(NamedTuple):
    """What gold verdicts say. `row` against `against`: a row that answers were compared with, or the other row of a
    `difference`; None: as the benchmark judges. `figure`: what is estimated; without one, the share of prompts on which
    `row` is better, in percent. `result`: None with fewer than two verdicts. `unlabelled`: prompts that were drawn, but
    have no verdict."""

    row: str
    against: str | None
    difference: bool
    benchmark: str
    figure: Figure | None
    result: Corrected | None
    unlabelled: int


def main_figure(entries: Sequence[Entry], benchmark: str) -> Figure | None:
    """The figure of a benchmark that gold verdicts correct: the first that rows are compared by and that is a mean over
    prompts with a smallest and a largest value; None where there is none."""
    return correctable(figure for figure in Figures(entries).compared if figure.benchmark == benchmark)


def correctable(figures: Iterable[Figure]) -> Figure | None:
    """`main_figure` among a benchmark's figures."""
    for figure in figures:
        is_mean = figure.pairing is not None and figure.pairing.kind == "mean" and figure.pairing.turn is None
        if figure.compared and is_mean and figure.ends is not None:
            return figure
    return None


def estimates(entries: Sequence[Entry], verdicts: Iterable[GoldVerdict]) -> list[GoldEstimate]:
    """An estimate for each row (or pair of rows) and benchmark that has gold verdicts, then the differences of rows
    with verdicts on the same prompts. Several verdicts on one prompt are averaged. Raises DataError for verdicts on
    rows or prompts that the board does not have."""
    rows = {entry.id: entry for entry in entries}
    groups: dict[tuple[str, str | None, str], dict[str, list[float | None]]] = {}
    for verdict in verdicts:
        for row in filter(None, (verdict.row, verdict.against)):
            if row not in rows:
                raise DataError(f"gold verdicts are about row {quoted(row)}, which is not on the board; {_known(rows)}")
        keyed = groups.setdefault((verdict.benchmark, verdict.against, verdict.row), {})
        keyed.setdefault(verdict.prompt, []).append(verdict.value)
    found, known = [], {}
    for (benchmark, against, row), keyed in groups.items():
        figure = main_figure(entries, benchmark)
        gold = {key: _mean(values) for key, values in keyed.items()}
        if against is not None:
            judge, labels = _preferred(rows[row], rows[against], benchmark, figure), _times(gold, 100)
            found.append(_estimate(row, against, benchmark, None, judge, labels))
        elif figure is None or figure.pairing is None:
            raise DataError(f"{benchmark} has no figure that gold verdicts can correct; compare rows with --against")
        else:
            judge = _by_prompt(figure_values(rows[row], figure))
            known[benchmark, row] = figure, judge, _by_prompt(figure.pairing.values(gold))
            found.append(_estimate(row, None, benchmark, figure, *known[benchmark, row][1:]))
    for ((name, one), (figure, *mine)), ((other_name, other), (_, *theirs)) in combinations(known.items(), 2):
        judge, labels = (_minus(a, b) for a, b in zip(mine, theirs, strict=True))
        if name == other_name and len([x for x in labels.values() if x is not None]) > 1:
            found.append(_estimate(one, other, name, figure, judge, labels, difference=True))
    return found


def with_gold(entries: Sequence[Entry], verdicts: Sequence[GoldVerdict]) -> list[Entry]:
    """The rows with a figure of their own for the corrected one (`alpaca_eval.gold_win_rate`), and what it rests on in
    `provenance.gold`. Raises DataError."""
    by_row: dict[str, list[GoldEstimate]] = {}
    for estimate in estimates(entries, verdicts):
        if estimate.figure is not None and estimate.result is not None and not estimate.difference:
            by_row.setdefault(estimate.row, []).append(estimate)
    by = ", ".join(dict.fromkeys(verdict.by for verdict in verdicts))
    return [_with_figures(entry, by_row.get(entry.id, ()), by) for entry in entries]


def without_gold(entries: Iterable[Entry]) -> list[Entry]:
    """The rows without corrected figures."""
    return [_with_figures(entry, (), "") for entry in entries]


def _with_figures(entry: Entry, found: Iterable[GoldEstimate], by: str) -> Entry:
    metrics = {name: metric for name, metric in entry.metrics.items() if not _is_gold(name)}
    figures = [figure for figure in entry.figures if not _is_gold(figure.metric)]
    facts: dict[str, Any] = {}
    for estimate in found:
        assert estimate.figure is not None
        assert estimate.result is not None
        figure, result = _gold_figure(estimate.figure, by), estimate.result
        best = result.best
        metrics[figure.metric] = Metric(
            value=best.value, stderr=best.stderr, ci95=best.ci95, n=result.labels, n_invalid=estimate.unlabelled
        )
        figures.append(figure)
        facts[estimate.benchmark] = {"by": by, **result.model_dump(mode="json")}
    plain = {name: value for name, value in entry.provenance.plain().items() if name != "gold"}
    about = Provenance.model_validate({**plain, **({"gold": facts} if facts else {})})
    return entry.model_copy(update={"metrics": metrics, "figures": tuple(figures), "provenance": about})


def _is_gold(metric: str) -> bool:
    return metric.partition(".")[2].startswith(PREFIX)


def _gold_figure(figure: Figure, by: str) -> Figure:
    return Figure(
        metric=f"{figure.benchmark}.{PREFIX}{figure.name}",
        group=figure.group,
        title=f"gold {figure.title}",
        short=f"gold {figure.short or figure.title}",
        decimals=figure.decimals,
        unit=figure.unit,
        higher_is_better=figure.higher_is_better,
        limits=figure.limits,
        note=f"Gold {figure.title}: what {by} would say. From {by}'s verdicts on a random part of the prompts, which n "
        "counts, and the judge's on all where they help (prediction-powered inference, arXiv 2311.01453).",
    )


def _estimate(
    row: str,
    against: str | None,
    benchmark: str,
    figure: Figure | None,
    judge: Values,
    gold: Values,
    difference: bool = False,
) -> GoldEstimate:
    if unknown := gold.keys() - judge.keys():
        raise DataError(
            f"gold verdicts are about prompt {quoted(min(unknown))}, on which the board has no outcome of row "
            f"{quoted(row)}; expected prompts of {benchmark}"
        )
    low, high = (0.0, 100.0) if figure is None else figure.ends or (0.0, 100.0)
    limits = (low - high, high - low) if difference else (low, high)
    prompts, labels = sorted(judge), sum(value is not None for value in gold.values())
    compute = corrected_difference if difference else corrected_rate
    result = compute([judge[p] for p in prompts], [gold.get(p) for p in prompts], limits) if labels > 1 else None
    return GoldEstimate(row, against, difference, benchmark, figure, result, len(gold) - labels)


def _by_prompt(values: Mapping[str, float | None]) -> Values:
    """The mean over the turns of each prompt; None where one is missing."""
    turns: dict[str, list[float | None]] = {}
    for key, value in values.items():
        turns.setdefault(prompt_of(key), []).append(value)
    return {prompt: None if None in group else _mean(group) for prompt, group in turns.items()}


def _preferred(row: Entry, other: Entry, benchmark: str, figure: Figure | None) -> Values:
    """100 where the judge's verdict on a row is better than on another, 50 where they are equal, 0 else."""
    if figure is None or not all(entry.outcomes.get(benchmark) for entry in (row, other)):
        raise DataError(f"rows {quoted(row.id)} and {quoted(other.id)} have no {benchmark} verdicts to compare")
    differences = _minus(*(_by_prompt(figure_values(entry, figure)) for entry in (row, other)))
    return {p: None if d is None else 50.0 * (1 + (d > 0) - (d < 0)) for p, d in differences.items()}


def _minus(one: Values, other: Values) -> Values:
    """Differences on the prompts that both have; None where either has no value."""
    pairs = {prompt: (one[prompt], other[prompt]) for prompt in one if prompt in other}
    return {prompt: None if a is None or b is None else a - b for prompt, (a, b) in pairs.items()}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _times(values: Values, factor: float) -> Values:
    return {key: None if value is None else factor * value for key, value in values.items()}


def _known(rows: Mapping[str, Entry]) -> str:
    return nearest("", rows, "its rows")
