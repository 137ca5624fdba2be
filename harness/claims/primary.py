"""What a run is for: one metric and the comparisons by it that were named before, or follow from the recipe.

Only these are tested as one family. All other figures and pairs of a board are exploratory."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.boards.catalog import Figures
from harness.boards.entry import Entry, comparable
from harness.claims.cells import (
    METHOD,
    SEEDS,
    TRAINING_SEED,
    CellRow,
    RowPair,
    SweepAxis,
    axes_of,
    cell_rows,
    row_pairs,
    run_of,
)
from harness.claims.effects import Effect, adjusted, are_one_method, effect_of, matched_budgets, mean_ratio
from harness.figures import HELDOUT, Figure

LC, UNPENALISED = "alpaca_eval.lc_win_rate", "alpaca_eval.lc_unpenalised"
OFFICIAL = ("length_controlled_v1",)
"""Fits of the length-controlled win rate that stand for a board's metric unasked."""


class Primary(NamedTuple):
    """The family of a board: its figure and its effects, each with the budgets that its rows shared (None: not
    trained). `margin`: what still counts as equal. `axis`: what was varied; empty for systems. `named`: the recipe
    names it, so that it was not chosen after the results were seen. `notes`: what was asked and can't be answered, and
    which tables take no part."""

    figure: Figure
    axis: str
    effects: tuple[Effect, ...]
    matched: tuple[str | None, ...]
    margin: float | None
    named: bool
    notes: tuple[str, ...] = ()


def primary(entries: Sequence[Entry]) -> Primary | None:
    """The primary comparisons of a board's first table that has any; None where no two of its rows can be compared."""
    tables = comparable(entries)
    for rows in tables:
        if len(rows) > 1 and (found := _of_table(rows)) is not None:
            others = sum(other is not rows and any(row.outcomes for row in other) for other in tables)
            if not others:
                return found
            said = "1 other table takes" if others == 1 else f"{others} other tables take"
            note = f"{said} no part: rows with another judge, benchmarks, reference answers or held-out pairs."
            return found._replace(notes=(*found.notes, note))
    return None


def _of_table(rows: Sequence[Entry]) -> Primary | None:
    """The primary comparisons of one table."""
    wanted = _wanted(rows)
    families, figures = _families(rows, wanted), Figures(rows)
    for figure in _metrics(rows, figures, wanted.get("metric")):
        found = [(effect_of(figure, pairs, *names), pairs, names) for pairs, names in families.pairs]
        made = [(effect, _matched(pairs)) for effect, pairs, _ in found if effect is not None]
        if made:
            family = tuple(adjusted([effect for effect, _ in made]))
            notes = [*_unlike_questions(rows), *families.notes]
            notes += [note for effect, pairs, _ in found if effect and (note := _left_out(effect, len(pairs)))]
            notes += [note for effect in family if (note := _across_runs(effect))]
            notes += [_not_compared(pairs, names) for effect, pairs, names in found if effect is None]
            named = bool(wanted.get("metric") or wanted.get("comparisons"))
            matched = tuple(budgets for _, budgets in made)
            return Primary(figure, families.axis, family, matched, wanted.get("margin"), named, tuple(notes))
    return None


def _left_out(effect: Effect, pairs: int) -> str | None:
    """How many of the pairs of rows take no part in an effect."""
    count = pairs - effect.pairs
    if count < 1:
        return None
    said = f"{count} of {pairs} pairs of rows {'is' if count == 1 else 'are'} left out, for want of verdicts"
    return f"{effect.value} against {effect.against}: {said} or of the figure."


def _across_runs(effect: Effect) -> str | None:
    """That an effect compares rows of runs that differ in more than the method."""
    runs = [(run_of(one), run_of(other)) for one, other in effect.rows]
    parts = dict.fromkeys(name for one, other in runs if one and other for name in one if one[name] != other[name])
    if not parts:
        return None
    return f"{effect.value} and {effect.against} come from recipes that also differ in {' and '.join(parts)}."


def _not_compared(pairs: Sequence[RowPair], names: tuple[str, str]) -> str:
    why = "their rows share no prompts by this figure" if pairs else "no two of their rows differ in this alone"
    return f"Not compared: {names[0]} against {names[1]}; {why}."


def _questions(rows: Sequence[Entry]) -> list[Any]:
    """The section `primary` of each row's recipe."""
    return [recipe.get("primary") for row in rows if (recipe := row.provenance.recipe) is not None]


def _unlike_questions(rows: Sequence[Entry]) -> list[str]:
    found = _questions(rows)
    if all(section == found[0] for section in found):
        return []
    return ["The rows' recipes name different primary comparisons, so that none of them counts: these are the default."]


def _wanted(rows: Sequence[Entry]) -> Mapping[str, Any]:
    """The section `primary` of the rows' recipe; empty where rows of several recipes want different things."""
    found = _questions(rows)
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
    """Pairs of rows to compare, each with the two names; what was varied; and what can't be asked of these rows."""

    pairs: list[tuple[list[RowPair], tuple[str, str]]]
    axis: str
    notes: tuple[str, ...] = ()


def _families(rows: Sequence[Entry], wanted: Mapping[str, Any]) -> _Families:
    axes = {axis.name: axis for axis in axes_of(rows)}
    name = wanted.get("axis")
    if name in axes and name != METHOD:
        return _of_axis(cell_rows(rows), axes[str(name)])
    found = _of_comparisons(rows, wanted.get("comparisons"), list(axes.values()))
    if name not in (None, METHOD):
        note = f"The recipe's primary axis, {name}, is none that these rows were varied in."
        return found._replace(notes=(note,))
    return found


def _of_comparisons(rows: Sequence[Entry], chosen: Any, axes: Sequence[SweepAxis]) -> _Families:
    """The comparisons that were named; else those of the methods, of a sweep's first axis, of the one method with the
    untrained row, or of the systems."""
    trained = cell_rows(rows)
    methods = list(dict.fromkeys(row.method for row in trained))
    if chosen:
        pairs = [_of_two(rows, trained, one, other) for one, other in chosen]
        return _Families(pairs, METHOD)
    if len(methods) > 1:
        others = _others(rows, methods)
        return _Families([_of_two(rows, trained, method, others[0]) for method in others[1:]], METHOD)
    # To train again with another seed varies nothing.
    varied = [axis for axis in axes if axis.name != METHOD and axis.name not in SEEDS]
    if varied:
        return _of_axis(trained, varied[0])
    if methods and (untrained := _untrained(rows)):
        return _Families([_of_two(rows, trained, methods[0], untrained)], METHOD)
    answered = [row for row in rows if row.outcomes]
    return _Families([_of_two(rows, trained, row.id, answered[0].id) for row in answered[1:]], "")


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


def _of_two(
    rows: Sequence[Entry], trained: Sequence[CellRow], one: str, other: str
) -> tuple[list[RowPair], tuple[str, str]]:
    """The pairs of two methods' rows, or of rows that are named by their ids: an untrained one, a system, a single
    training of a method."""
    methods = {row.method for row in trained}
    if one in methods and other in methods:
        like, axis = _with_like_seeds(trained, one, other), SweepAxis(METHOD, (), (other, one))
        found = row_pairs(like, axis, one) or row_pairs(like, axis, one, across_runs=True)
        # Where nothing else is compared, the answer says that it is one loss.
        return [pair for pair in found if not are_one_method(pair[1:])] or found, (one, other)
    # By id, since a row in several cells is still one training.
    firsts, seconds = (
        {row.entry.id: (row.settings, row.entry) for row in trained if row.method == name}
        or {row.id: (frozenset[tuple[str, str]](), row) for row in rows if row.id == name}
        for name in (one, other)
    )
    pairs = [
        (mine or theirs, first, second)
        for mine, first in firsts.values()
        for theirs, second in seconds.values()
        if first.id != second.id and _of_one_policy(first, second)
    ]
    return pairs, (one, other)


def _with_like_seeds(trained: Sequence[CellRow], one: str, other: str) -> list[CellRow]:
    """The rows of two methods. Where they were trained with other seeds, the first seed of one stands beside the first
    of the other, and so on: a training's seed says nothing but that it is another training."""
    rows = [row for row in trained if row.method in (one, other)]
    seeds = {
        method: sorted({_seed_of(row) for row in rows if row.method == method}, key=lambda seed: (len(seed), seed))
        for method in (one, other)
    }
    if len(set(seeds[one]) & set(seeds[other])) == min(map(len, seeds.values())):
        return rows
    return [row._replace(settings=_with_seed(row, str(seeds[row.method].index(_seed_of(row))))) for row in rows]


def _seed_of(row: CellRow) -> str:
    return dict(row.settings).get(TRAINING_SEED, "")


def _with_seed(row: CellRow, seed: str) -> frozenset[tuple[str, str]]:
    return frozenset([*(item for item in row.settings if item[0] != TRAINING_SEED), (TRAINING_SEED, seed)])


def _of_one_policy(first: Entry, second: Entry) -> bool:
    """Whether both rows come from the same policy, if both come from one; systems come from none."""
    policies = [row.provenance.policy for row in (first, second)]
    return None in policies or policies[0] == policies[1]


def _matched(pairs: Sequence[RowPair]) -> str | None:
    """The budgets that the rows shared; None for rows that were not trained."""
    if not all(row.provenance.training is not None for pair in pairs for row in pair[1:]):
        return None
    budgets = [mean_ratio(pairs, name) for name in ("steps", "forward_tokens")]
    return matched_budgets(*budgets) if budgets != [None, None] else None
