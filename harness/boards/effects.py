"""Effects of a sweep's axes: rows that differ in one setting only, compared prompt by prompt.

Each value of an axis is compared with the axis's first value. Pairs of rows that differ in that value only are pooled:
outcomes are averaged per prompt over the pairs, and the paired test runs over prompts on those means. The methods of
the recipe are an axis too.
"""

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from harness.boards.catalog import Figures
from harness.boards.entry import Entry, measured_by
from harness.boards.facts import loss_facts, row_costs
from harness.boards.outcomes import figure_values, has_resamples
from harness.boards.provenance import SweepFacts, TrainingFacts
from harness.figures import HELDOUT, Figure
from harness.stats.paired import Comparison, compare, compare_resamples, holm

METHOD = "method"
MATCHED_WITHIN = 0.02
"""Budgets whose ratio is within this distance of one are matched."""


class SweepAxis(NamedTuple):
    """An axis of a sweep: its name, the recipe's fields, and the names of its values in order."""

    name: str
    fields: tuple[str, ...]
    values: tuple[str, ...]


class Effect(NamedTuple):
    """A value against the axis's first one, by one metric, pooled over `pairs` pairs of rows. `by_seed`: the difference
    for each seed; empty for a single seed."""

    value: str
    against: str
    metric: str
    comparison: Comparison
    pairs: int
    by_seed: tuple[float, ...]

    @property
    def over_seeds(self) -> tuple[float, float] | None:
        """Mean and standard deviation over the seeds."""
        return (fmean(self.by_seed), stdev(self.by_seed)) if len(self.by_seed) > 1 else None


class Level(NamedTuple):
    """The rows of one value: their number, each metric's mean over them, and the mean costs of a row."""

    value: str
    rows: int
    figures: dict[str, float]
    costs: dict[str, float]


class Edge(NamedTuple):
    """Multi-DPO minus a method on pairs, over the cells that have both. `steps`, `tokens`: the mean ratio of
    Multi-DPO's to the other's; None where unknown."""

    method: str
    against: str
    effects: tuple[Effect, ...]
    steps: float | None
    tokens: float | None

    @property
    def matched(self) -> str:
        """Which budgets of the two are equal: steps, tokens, both or neither."""
        equal = [
            name
            for name, ratio in (("steps", self.steps), ("tokens", self.tokens))
            if ratio is not None and abs(ratio - 1) <= MATCHED_WITHIN
        ]
        return " and ".join(equal) or "neither"


class _CellRow(NamedTuple):
    """A row in one of its cells: its method and the cell's settings."""

    method: str
    settings: frozenset[tuple[str, str]]
    entry: Entry


def axes_of(entries: Iterable[Entry]) -> list[SweepAxis]:
    """The axes of the rows' sweep, the methods last where there are several; empty for a board without a sweep."""
    for entry in entries:
        if entry.provenance.sweep and entry.provenance.sweep.axes:
            axes = [SweepAxis(axis.name, axis.fields, axis.values) for axis in entry.provenance.sweep.axes]
            methods = tuple(dict.fromkeys(row.method for row in _cell_rows(entries)))
            return [*axes, *([SweepAxis(METHOD, ("methods",), methods)] if len(methods) > 1 else [])]
    return []


def _cell_rows(entries: Iterable[Entry]) -> list[_CellRow]:
    """Every trained row in each of its cells; in a single cell where there is no sweep."""
    rows = []
    for entry in entries:
        about, sweep = entry.provenance, entry.provenance.sweep or SweepFacts()
        if about.training is None:
            continue
        method = about.method_id or sweep.row or entry.id
        seed = [] if about.training_seed is None else [("training seed", str(about.training_seed))]
        for cell in sweep.cells or ({},):
            rows.append(_CellRow(method, frozenset([*cell.items(), *seed]), entry))
    return rows


def levels(entries: Sequence[Entry], axis: SweepAxis) -> list[Level]:
    """The axis's values that have rows, in order, with the means over their rows."""
    cell_rows = _cell_rows(entries)
    result = []
    for value in axis.values:
        rows = {row.entry.id: row.entry for row in cell_rows if _setting(row, axis.name) == value}
        if rows:
            metrics = {name for entry in rows.values() for name in entry.metrics}
            figures = {
                name: fmean(scores)
                for name in metrics
                if (scores := [x for e in rows.values() if (x := e.value(name)) is not None])
            }
            result.append(Level(value, len(rows), figures, _mean_costs(rows.values())))
    return result


def by_method(entries: Sequence[Entry], axis: SweepAxis, metric: str) -> dict[str, dict[str, float]]:
    """Method -> value of the axis -> the metric's mean over their rows."""
    cells: dict[str, dict[str, dict[str, float]]] = {}
    for row in _cell_rows(entries):
        if (score := row.entry.value(metric)) is not None and (value := _setting(row, axis.name)) is not None:
            cells.setdefault(row.method, {}).setdefault(value, {})[row.entry.id] = score
    return {
        method: {value: fmean(scores.values()) for value, scores in by_value.items()}
        for method, by_value in cells.items()
    }


def effects(entries: Sequence[Entry], axis: SweepAxis) -> list[Effect]:
    """Each value against the first one, by each compared metric; Holm's correction over the values, per metric. Values
    without a pair of rows to compare are left out."""
    rows = _cell_rows(entries)
    result: list[Effect] = []
    for figure in Figures(entries).compared:
        of_figure = [
            effect
            for value in axis.values[1:]
            if (effect := _effect(figure, _pairs(rows, axis, value), value, axis.values[0]))
        ]
        result += _adjusted(of_figure)
    return result


def edges(entries: Sequence[Entry]) -> list[Edge]:
    """Multi-DPO against each method on pairs; Holm's correction over all of these comparisons, per metric."""
    rows = _cell_rows(entries)
    figures = Figures(entries).compared
    losses = {row.method: loss_facts(row.entry) for row in rows}
    multi = [method for method, loss in losses.items() if loss.is_multi_dpo]
    others = [method for method, loss in losses.items() if loss.on_pairs]
    result = []
    for method in multi:
        for against in others:
            pairs = _pairs(rows, SweepAxis(METHOD, (), (against, method)), method)
            of_pair = [e for figure in figures if (e := _effect(figure, pairs, method, against))]
            if of_pair:
                steps, tokens = (_mean_ratio(pairs, name) for name in ("steps", "forward_tokens"))
                result.append(Edge(method, against, tuple(of_pair), steps, tokens))
    adjusted: dict[tuple[str, str, str], Effect] = {}
    for figure in figures:
        of_figure = _adjusted([e for edge in result for e in edge.effects if e.metric == figure.metric])
        adjusted |= {(e.value, e.against, e.metric): e for e in of_figure}
    return [
        edge._replace(effects=tuple(adjusted[e.value, e.against, e.metric] for e in edge.effects)) for edge in result
    ]


def _adjusted(unadjusted: Sequence[Effect]) -> list[Effect]:
    """The effects with Holm's correction over all of them."""
    adjusted = holm([e.comparison.p for e in unadjusted])
    return [
        e._replace(comparison=e.comparison.model_copy(update={"adjusted_p": p}))
        for e, p in zip(unadjusted, adjusted, strict=True)
    ]


def _setting(row: _CellRow, axis: str) -> str | None:
    return row.method if axis == METHOD else dict(row.settings).get(axis)


RowPair = tuple[frozenset[tuple[str, str]], Entry, Entry]
"""(settings, row with the value, row with the axis's first value)."""


def _pairs(rows: Sequence[_CellRow], axis: SweepAxis, value: str) -> list[RowPair]:
    """All pairs of a row with the value and a row with the axis's first value that differ in nothing else."""

    def rest(row: _CellRow) -> tuple[str, frozenset[tuple[str, str]]]:
        method = "" if axis.name == METHOD else row.method
        return method, frozenset(item for item in row.settings if item[0] != axis.name)

    first = {rest(row): row for row in rows if _setting(row, axis.name) == axis.values[0]}
    pairs: dict[tuple[str, str], RowPair] = {}
    for row in rows:
        other = first.get(rest(row))
        if _setting(row, axis.name) == value and other is not None and other.entry.id != row.entry.id:
            pairs.setdefault((row.entry.id, other.entry.id), (row.settings, row.entry, other.entry))
    return list(pairs.values())


def _effect(figure: Figure, pairs: Sequence[RowPair], value: str, against: str) -> Effect | None:
    pooled = _pooled(figure, [(one, other) for _, one, other in pairs], value, against)
    if pooled is None:
        return None
    comparison, count = pooled
    by_seed: dict[tuple[str, ...], list[tuple[Entry, Entry]]] = {}
    for settings, one, other in pairs:
        if seed := tuple(label for axis, label in sorted(settings) if axis in ("seed", "training seed")):
            by_seed.setdefault(seed, []).append((one, other))
    each = [_pooled(figure, of_seed, value, against) for of_seed in by_seed.values()] if len(by_seed) > 1 else []
    return Effect(value, against, figure.metric, comparison, count, tuple(c.difference for c, _ in filter(None, each)))


def _pooled(
    figure: Figure, pairs: Sequence[tuple[Entry, Entry]], value: str, against: str
) -> tuple[Comparison, int] | None:
    """(the comparison, the number of pairs in it); None where no pair has shared outcomes."""
    if figure.benchmark != HELDOUT:
        # In a sweep over policies or judges, figures by another judge or against other answers are not comparable.
        pairs = [(one, other) for one, other in pairs if measured_by(one) == measured_by(other)]
    if figure.pairing is not None and figure.pairing.kind == "resamples":
        return _pooled_resamples(figure, pairs, value, against)
    outcomes: dict[str, list[tuple[float, float]]] = {}
    used = 0
    for one, other in pairs:
        first, second = figure_values(one, figure), figure_values(other, figure)
        shared = [(k, x, y) for k, x in first.items() if x is not None and (y := second.get(k)) is not None]
        used += bool(shared)
        for key, x, y in shared:
            outcomes.setdefault(key, []).append((x, y))
    pooled = {
        name: {key: fmean(pair[side] for pair in pairs_of_key) for key, pairs_of_key in outcomes.items()}
        for side, name in enumerate((f"{value}", f"{against}\0"))
    }
    comparisons = compare(pooled, [tuple(pooled)])  # type: ignore[list-item]
    return (comparisons[0].model_copy(update={"first": value, "second": against}), used) if comparisons else None


def _pooled_resamples(
    figure: Figure, pairs: Sequence[tuple[Entry, Entry]], value: str, against: str
) -> tuple[Comparison, int] | None:
    """`_pooled` for a figure that is not a mean over prompts: the mean over the pairs, also in each resample."""
    metric, complete = figure.metric, []
    for one, other in pairs:
        outcomes = [e.outcomes.get(figure.benchmark, {}) for e in (one, other)]
        resamples = [e.resamples.get(metric, []) for e in (one, other)]
        both = has_resamples(one, figure) and has_resamples(other, figure)
        if both and outcomes[0].keys() == outcomes[1].keys() and len(resamples[0]) == len(resamples[1]) > 1:
            complete.append((one, other))
    sizes = {len(e.resamples[metric]) for pair in complete for e in pair}
    if not complete or len(sizes) > 1:
        return None
    means = [fmean(float(pair[i].metrics[metric].value or 0) for pair in complete) for i in (0, 1)]
    mean_resamples = [
        [fmean(c) for c in zip(*(pair[i].resamples[metric] for pair in complete), strict=True)] for i in (0, 1)
    ]
    prompts = len(complete[0][0].outcomes[figure.benchmark])
    comparison = compare_resamples(
        value, against, (means[0], means[1]), (mean_resamples[0], mean_resamples[1]), prompts
    )
    return comparison, len(complete)


def _mean_ratio(pairs: Sequence[RowPair], name: str) -> float | None:
    """Mean ratio of one row's training figure to the other's."""
    ratios = []
    for _, one, other in pairs:
        x, y = (dict(e.provenance.training or TrainingFacts())[name] for e in (one, other))
        if x is not None and y:
            ratios.append(x / y)
    return fmean(ratios) if ratios else None


def _mean_costs(entries: Iterable[Entry]) -> dict[str, float]:
    by_name: dict[str, list[float]] = {}
    for entry in entries:
        for name, value in row_costs(entry).items():
            by_name.setdefault(name, []).append(value)
    return {name: fmean(amounts) for name, amounts in by_name.items()}
