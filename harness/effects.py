"""What each thing that a sweep varies has changed: rows that differ in nothing else, compared prompt by prompt.

A value is compared with the axis's first value. Pairs of rows that differ in that value only are pooled: of each prompt
the mean over the pairs, and the paired test over prompts on those means. The methods of the recipe are an axis too.
"""

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from harness.board_data import cost_of
from harness.board_rows import Entry, measured_by
from harness.outcomes import COMPARED, LC, values
from harness.paired import Comparison, compare, compare_resamples, holm

METHOD = "method"
PAIRWISE = ("dpo_adjacent", "dpo_best_worst", "dpo_all_pairs", "dpo_best_rest", "dpo_best_random", "ipo_pairs")
"""Losses over pairs: what a user would otherwise train with."""
EVEN = 0.02
"""Budgets that differ by no more than this share are matched."""


class SweepAxis(NamedTuple):
    """What was varied: its name, the recipe's fields, its values' names in order."""

    name: str
    fields: tuple[str, ...]
    values: tuple[str, ...]


class Effect(NamedTuple):
    """A value against the axis's first, by one metric, pooled over `pairs` pairs of rows. `by_seed`: the difference for
    each seed, where there are several."""

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
    """The rows of one value: how many, each metric's mean over them, and what a row cost in the mean."""

    value: str
    rows: int
    figures: dict[str, float]
    costs: dict[str, float]


class Edge(NamedTuple):
    """Multi-DPO less a method on pairs, over the cells that have both. `steps`, `tokens`: Multi-DPO's over the other's,
    in the mean; None where not known."""

    method: str
    against: str
    effects: tuple[Effect, ...]
    steps: float | None
    tokens: float | None

    @property
    def matched(self) -> str:
        """What both had the same of."""
        even = [
            name
            for name, ratio in (("steps", self.steps), ("tokens", self.tokens))
            if ratio is not None and abs(ratio - 1) <= EVEN
        ]
        return " and ".join(even) or "neither"


class _Placed(NamedTuple):
    """A row in one of its cells: its method, and the settings."""

    method: str
    settings: frozenset[tuple[str, str]]
    entry: Entry


def axes_of(entries: Iterable[Entry]) -> list[SweepAxis]:
    """What the rows' sweep varies, the methods last where there are several; empty for a board without a sweep."""
    for entry in entries:
        found = entry.section("sweep").get("axes")
        if isinstance(found, list | tuple) and found:
            axes = [SweepAxis(a["name"], tuple(a["fields"]), tuple(a["values"])) for a in found]
            methods = tuple(dict.fromkeys(placed.method for placed in _placed(entries)))
            return [*axes, *([SweepAxis(METHOD, ("methods",), methods)] if len(methods) > 1 else [])]
    return []


def _placed(entries: Iterable[Entry]) -> list[_Placed]:
    """Every trained row in each of its cells; in a single one where there is no sweep."""
    found = []
    for entry in entries:
        sweep = entry.section("sweep")
        if not entry.section("training"):
            continue
        method = str(entry.provenance.get("method_id") or sweep.get("row") or entry.id)
        own = [("training seed", str(entry.provenance["training_seed"]))] if "training_seed" in entry.provenance else []
        for cell in sweep.get("cells") or [{}]:
            found.append(_Placed(method, frozenset([*cell.items(), *own]), entry))
    return found


def levels(entries: Sequence[Entry], axis: SweepAxis) -> list[Level]:
    """The axis's values, each with the rows that have it."""
    placed = _placed(entries)
    found = []
    for value in axis.values:
        rows = {p.entry.id: p.entry for p in placed if _value(p, axis.name) == value}
        if rows:
            metrics = {name for entry in rows.values() for name in entry.metrics}
            figures = {
                name: fmean(known)
                for name in metrics
                if (known := [x for e in rows.values() if (x := _figure(e, name)) is not None])
            }
            found.append(Level(value, len(rows), figures, _mean_costs(rows.values())))
    return found


def by_method(entries: Sequence[Entry], axis: SweepAxis, metric: str) -> dict[str, dict[str, float]]:
    """Method -> value of the axis -> the metric's mean over their rows."""
    cells: dict[str, dict[str, dict[str, float]]] = {}
    for p in _placed(entries):
        if (figure := _figure(p.entry, metric)) is not None and (value := _value(p, axis.name)) is not None:
            cells.setdefault(p.method, {}).setdefault(value, {})[p.entry.id] = figure
    return {method: {v: fmean(f.values()) for v, f in row.items()} for method, row in cells.items()}


def effects(entries: Sequence[Entry], axis: SweepAxis) -> list[Effect]:
    """Each value against the first one, by each metric that boards compare rows by; Holm's correction over the values,
    for each metric. Values without a pair of rows that differ are left out."""
    placed = _placed(entries)
    found: list[Effect] = []
    for metric in COMPARED:
        made = [
            effect
            for value in axis.values[1:]
            if (effect := _effect(metric, _pairs(placed, axis, value), value, axis.values[0]))
        ]
        found += _adjusted(made)
    return found


def edges(entries: Sequence[Entry]) -> list[Edge]:
    """Multi-DPO against each method on pairs; Holm's correction over all of them, for each metric."""
    placed = _placed(entries)
    losses = {p.method: p.entry.method for p in placed}
    multi = [m for m, loss in losses.items() if loss == "mdpo_linear"]
    others = [m for m, loss in losses.items() if loss in PAIRWISE or loss.startswith("trl:")]
    found = []
    for method in multi:
        for against in others:
            pairs = _pairs(placed, SweepAxis(METHOD, (), (against, method)), method)
            made = [e for metric in COMPARED if (e := _effect(metric, pairs, method, against))]
            if made:
                steps, tokens = (_ratio(pairs, name) for name in ("steps", "forward_tokens"))
                found.append(Edge(method, against, tuple(made), steps, tokens))
    adjusted: dict[tuple[str, str, str], Effect] = {}
    for metric in COMPARED:
        same = _adjusted([e for edge in found for e in edge.effects if e.metric == metric])
        adjusted |= {(e.value, e.against, metric): e for e in same}
    return [
        edge._replace(effects=tuple(adjusted[e.value, e.against, e.metric] for e in edge.effects)) for edge in found
    ]


def _adjusted(made: Sequence[Effect]) -> list[Effect]:
    adjusted = holm([e.comparison.p for e in made])
    return [
        e._replace(comparison=e.comparison.model_copy(update={"adjusted_p": p}))
        for e, p in zip(made, adjusted, strict=True)
    ]


def _value(placed: _Placed, axis: str) -> str | None:
    return placed.method if axis == METHOD else dict(placed.settings).get(axis)


Pair = tuple[frozenset[tuple[str, str]], Entry, Entry]


def _pairs(placed: Sequence[_Placed], axis: SweepAxis, value: str) -> list[Pair]:
    """(settings, row with the value, row with the axis's first) of all rows that differ in nothing else."""

    def rest(p: _Placed) -> tuple[str, frozenset[tuple[str, str]]]:
        method = "" if axis.name == METHOD else p.method
        return method, frozenset(item for item in p.settings if item[0] != axis.name)

    first = {rest(p): p for p in placed if _value(p, axis.name) == axis.values[0]}
    found: dict[tuple[str, str], Pair] = {}
    for p in placed:
        other = first.get(rest(p))
        if _value(p, axis.name) == value and other is not None and other.entry.id != p.entry.id:
            found.setdefault((p.entry.id, other.entry.id), (p.settings, p.entry, other.entry))
    return list(found.values())


def _effect(metric: str, pairs: Sequence[Pair], value: str, against: str) -> Effect | None:
    made = _pooled(metric, [(one, other) for _, one, other in pairs], value, against)
    if made is None:
        return None
    comparison, count = made
    seeds: dict[tuple[str, ...], list[tuple[Entry, Entry]]] = {}
    for settings, one, other in pairs:
        if seed := tuple(label for axis, label in sorted(settings) if axis in ("seed", "training seed")):
            seeds.setdefault(seed, []).append((one, other))
    each = [_pooled(metric, own, value, against) for own in seeds.values()] if len(seeds) > 1 else []
    return Effect(value, against, metric, comparison, count, tuple(c.difference for c, _ in filter(None, each)))


def _pooled(
    metric: str, pairs: Sequence[tuple[Entry, Entry]], value: str, against: str
) -> tuple[Comparison, int] | None:
    """(the comparison, of how many pairs); None where no pair has shared outcomes."""
    if not metric.startswith("heldout."):
        # A sweep over policies or judges: figures against other answers, or by others, don't differ by an effect.
        pairs = [(one, other) for one, other in pairs if measured_by(one) == measured_by(other)]
    if metric == LC:
        return _pooled_resamples(pairs, value, against)
    sums: dict[str, list[tuple[float, float]]] = {}
    used = 0
    for one, other in pairs:
        first, second = values(one, metric), values(other, metric)
        shared = [(k, x, y) for k, x in first.items() if x is not None and (y := second.get(k)) is not None]
        used += bool(shared)
        for key, x, y in shared:
            sums.setdefault(key, []).append((x, y))
    pooled = {
        name: {key: fmean(pair[place] for pair in found) for key, found in sums.items()}
        for place, name in enumerate((f"{value}", f"{against}\0"))
    }
    made = compare(pooled, [tuple(pooled)])  # type: ignore[list-item]
    return (made[0].model_copy(update={"first": value, "second": against}), used) if made else None


def _pooled_resamples(pairs: Sequence[tuple[Entry, Entry]], value: str, against: str) -> tuple[Comparison, int] | None:
    """Of a figure that is no mean over prompts: the mean over the pairs, in each resample too."""
    whole = []
    for one, other in pairs:
        sets = [e.outcomes.get("alpaca_eval", {}) for e in (one, other)]
        drawn = [e.resamples.get(LC, []) for e in (one, other)]
        known = all(e.metrics.get(LC) is not None and e.metrics[LC].value is not None for e in (one, other))
        if known and sets[0].keys() == sets[1].keys() and len(drawn[0]) == len(drawn[1]) > 1:
            whole.append((one, other))
    sizes = {len(e.resamples[LC]) for pair in whole for e in pair}
    if not whole or len(sizes) > 1:
        return None
    figures = [fmean(float(pair[i].metrics[LC].value or 0) for pair in whole) for i in (0, 1)]
    drawn = [[fmean(column) for column in zip(*(pair[i].resamples[LC] for pair in whole), strict=True)] for i in (0, 1)]
    prompts = len(whole[0][0].outcomes["alpaca_eval"])
    made = compare_resamples(value, against, (figures[0], figures[1]), (drawn[0], drawn[1]), prompts)
    return made, len(whole)


def _figure(entry: Entry, metric: str) -> float | None:
    found = entry.metrics.get(metric)
    return None if found is None else found.value


def _ratio(pairs: Sequence[Pair], name: str) -> float | None:
    """A figure of the training of one row over that of the other, in the mean."""
    ratios = []
    for _, one, other in pairs:
        x, y = one.section("training").get(name), other.section("training").get(name)
        if isinstance(x, int | float) and isinstance(y, int | float) and y:
            ratios.append(x / y)
    return fmean(ratios) if ratios else None


def _mean_costs(entries: Iterable[Entry]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for entry in entries:
        for name, value in cost_of(entry).items():
            found.setdefault(name, []).append(value)
    return {name: fmean(known) for name, known in found.items()}
