"""What a run is for: one metric and the comparisons by it that were named before, or follow from the recipe.

Only these are tested as one family. All other figures and pairs of a board are exploratory."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.boards.catalog import Figures
from harness.boards.entry import Entry, comparable
from harness.claims.cells import METHOD, CellRow, RowPair, SweepAxis, axes_of, cell_rows, row_pairs
from harness.claims.effects import Effect, adjusted, effect_of, is_one_method, matched_budgets, mean_ratio
from harness.figures import HELDOUT, Figure

LC, UNPENALISED = "alpaca_eval.lc_win_rate", "alpaca_eval.lc_unpenalised"
OFFICIAL = ("length_controlled_v1",)
"""Fits of the length-controlled win rate that stand for a board's metric unasked."""


class Primary(NamedTuple):
    """The family of a board: its figure and its effects, each with the budgets that its rows shared (None: not
    trained). `margin`: what still counts as equal. `axis`: what was varied; empty for systems. `named`: the recipe
    names it, so that it was not chosen after the results were seen."""

    figure: Figure
    axis: str
    effects: tuple[Effect, ...]
    matched: tuple[str | None, ...]
    margin: float | None
    named: bool


def primary(entries: Sequence[Entry]) -> Primary | None:
    """The primary comparisons of a board's first table; None where no two of its rows can be compared."""
    tables = [rows for rows in comparable(entries) if len(rows) > 1]
    if not tables:
        return None
    rows = tables[0]
    wanted = _wanted(rows)
    families = _families(rows, wanted)
    figures = Figures(rows)
    for figure in _metrics(rows, figures, wanted.get("metric")):
        found = [(e, m) for pairs, names in families.pairs for e, m in _compared(figure, pairs, names)]
        if found:
            family = tuple(adjusted([effect for effect, _ in found]))
            named = bool(wanted.get("metric") or wanted.get("comparisons"))
            return Primary(figure, families.axis, family, tuple(m for _, m in found), wanted.get("margin"), named)
    return None


def _wanted(rows: Sequence[Entry]) -> Mapping[str, Any]:
    """The section `primary` of the rows' recipe; empty where rows of several recipes want different things."""
    found = [recipe.get("primary") for row in rows if (recipe := row.provenance.recipe) is not None]
    if not found or any(section != found[0] for section in found) or not isinstance(found[0], Mapping):
        return {}
    return found[0]


def _metrics(rows: Sequence[Entry], figures: Figures, wanted: str | None) -> list[Figure]:
    """The figures to try, in order: the one named; else the length-controlled win rate where its fit is the official
    one, the win rate, other headlines, and accuracy on held-out pairs."""
    if wanted is not None:
        return [figure for figure in [figures.get(wanted)] if figure is not None and figure.compared]
    official = any(
        identity.get("lc_glm") in OFFICIAL
        for row in rows
        if isinstance(identity := row.provenance.benchmarks.get("alpaca_eval"), Mapping)
    )
    names = [LC if official else UNPENALISED, "alpaca_eval.win_rate"]
    named = [figure for name in names if (figure := figures.get(name)) is not None and figure.compared]
    headlines = [figure for figure in figures.headlines if figure.metric not in (LC, *names)]
    return [*named, *headlines, *(figure for figure in figures.compared if figure.benchmark == HELDOUT)]


class _Families(NamedTuple):
    """Pairs of rows to compare, each with the two names; and what was varied."""

    pairs: list[tuple[list[RowPair], tuple[str, str]]]
    axis: str


def _families(rows: Sequence[Entry], wanted: Mapping[str, Any]) -> _Families:
    trained = cell_rows(rows)
    methods = list(dict.fromkeys(row.method for row in trained))
    axes = {axis.name: axis for axis in axes_of(rows)}
    if (name := wanted.get("axis")) in axes and name != METHOD:
        return _of_axis(trained, axes[str(name)])
    if chosen := wanted.get("comparisons"):
        return _Families([_of_methods(rows, trained, one, other) for one, other in chosen], METHOD)
    if len(methods) > 1:
        others = _others(rows, methods)
        return _Families([_of_methods(rows, trained, method, others[0]) for method in others[1:]], METHOD)
    varied = [axis for axis in axes.values() if axis.name != METHOD]
    if varied:
        return _of_axis(trained, varied[0])
    if methods:
        return _Families([_of_methods(rows, trained, methods[0], _untrained(rows))], METHOD)
    answered = [row for row in rows if row.outcomes]
    pairs = [([(frozenset[tuple[str, str]](), row, answered[0])], (row.id, answered[0].id)) for row in answered[1:]]
    return _Families(pairs, "")


def _others(rows: Sequence[Entry], methods: Sequence[str]) -> list[str]:
    """The methods in the recipe's order: the first is what the others are compared with."""
    for row in rows:
        listed = (row.provenance.recipe or {}).get("methods")
        known = [method for method in listed if isinstance(method, Mapping)] if isinstance(listed, list) else []
        ids = [str(method.get("id")) for method in known]
        if set(methods) <= set(ids):
            return [name for name in ids if name in methods]
    return list(methods)


def _untrained(rows: Sequence[Entry]) -> str:
    """The id of the row before training."""
    return next((row.id for row in rows if row.provenance.training is None), "")


def _of_axis(trained: Sequence[CellRow], axis: SweepAxis) -> _Families:
    pairs = [(row_pairs(trained, axis, value), (value, axis.values[0])) for value in axis.values[1:]]
    return _Families(pairs, axis.name)


def _of_methods(
    rows: Sequence[Entry], trained: Sequence[CellRow], one: str, other: str
) -> tuple[list[RowPair], tuple[str, str]]:
    """The pairs of two methods' rows, or of a method's rows and an untrained row."""
    by_id = {row.id: row for row in rows if row.provenance.training is None}
    if other in by_id:
        base = by_id[other]
        same = [row for row in trained if row.method == one and row.entry.provenance.policy == base.provenance.policy]
        return [(row.settings, row.entry, base) for row in same], (one, other)
    found = row_pairs(trained, SweepAxis(METHOD, (), (other, one)), one)
    return [pair for pair in found if not is_one_method(pair)], (one, other)


def _compared(figure: Figure, pairs: list[RowPair], names: tuple[str, str]) -> list[tuple[Effect, str | None]]:
    effect = effect_of(figure, pairs, *names)
    if effect is None:
        return []
    trained = all(row.provenance.training is not None for pair in pairs for row in pair[1:])
    budgets = [mean_ratio(pairs, name) for name in ("steps", "forward_tokens")] if trained else [None, None]
    return [(effect, matched_budgets(*budgets) if budgets != [None, None] else None)]
