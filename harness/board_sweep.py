"""A sweep's part of a board: a section for each thing that was varied, as tables that Markdown, the page and the
terminal draw."""

from collections.abc import Sequence
from typing import NamedTuple

from harness.board_markup import bullets, escape_markdown, table
from harness.board_pairs import comparison_decimals, comparison_title
from harness.board_rows import CATEGORIES, COLUMNS, Column, Entry, number
from harness.effects import METHOD, Edge, Effect, SweepAxis, axes_of, by_method, edges, effects, levels

HOW = (
    "A difference is that of rows that differ in nothing else, prompt by prompt, pooled over all that was varied "
    "besides; its 95 % interval is a bootstrap over prompts, p a sign-flip permutation test, with Holm's correction "
    "over the axis's values. Both are about these trained rows on other prompts: what another training would give is "
    "seen only where seeds were varied. Costs are those of a row, in the mean, were it made alone."
)
HEADLINES = ("alpaca_eval.win_rate", "alpaca_eval.lc_win_rate", "mt_bench.score", "mt_bench.win_rate")
_COSTS = {
    "reward accuracy": 3,
    "generated share": 2,
    "generated tokens": 0,
    "training tokens": 0,
    "judge tokens": 0,
    "judge dollars": 4,
}


class Table(NamedTuple):
    """A titled table of texts; the first `left` columns are words."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    left: int


class Section(NamedTuple):
    """What is said of one axis."""

    title: str
    notes: list[str]
    tables: list[Table]


def sweep_sections(entries: Sequence[Entry]) -> list[Section]:
    """One section an axis, then Multi-DPO against pairs; a board without a sweep has the last alone, where methods were
    matched."""
    axes = axes_of(entries)
    found = [_axis_section(entries, axis, several=METHOD in [a.name for a in axes]) for axis in axes]
    matched = any("match_to" in entry.provenance for entry in entries)
    if (axes or matched) and (made := edges(entries)):
        found.append(_edge_section(entries, made))
    return [section for section in found if section is not None]


def sweep_markdown(entries: Sequence[Entry]) -> list[str]:
    """The sections as Markdown."""
    sections = sweep_sections(entries)
    parts = ["## What was varied", HOW] if sections else []
    for section in sections:
        parts.append(f"### {escape_markdown(section.title)}")
        parts += [bullets(escape_markdown(note) for note in section.notes)] if section.notes else []
        for made in section.tables:
            # Words may be anybody's; figures are ours.
            rows = [[escape_markdown(c) if i < made.left else c for i, c in enumerate(row)] for row in made.rows]
            heads = [escape_markdown(head) for head in made.heads]
            parts += [f"{escape_markdown(made.title)}:", table(heads, rows, left=made.left)]
    return parts


def verdict(effect: Effect, entries: Sequence[Entry]) -> str:
    """An effect in a line: `n 4 against 2: AlpacaEval win rate +3.1 [0.4, 5.8], p 0.02`."""
    return (
        f"{effect.value} against {effect.against}: {comparison_title(effect.metric, entries)} "
        f"{_in_words(effect)}, p {effect.comparison.adjusted_p:.2g}"
    )


def _axis_section(entries: Sequence[Entry], axis: SweepAxis, several: bool) -> Section | None:
    there = levels(entries, axis)
    if len(there) < 2:
        return None
    made = effects(entries, axis)
    real = [e for e in made if e.comparison.is_real]
    notes = [verdict(e, entries) for e in real] or ["No difference is real at the 5 % level."]
    if made:
        seen = {e.metric: max(x.comparison.detectable for x in made if x.metric == e.metric) for e in made}
        told = ", ".join(f"{comparison_title(m, entries)} {number(x, comparison_decimals(m))}" for m, x in seen.items())
        notes.append(f"A true difference this large would have been seen four times in five: {told}.")
    tables = [_levels_table(entries, axis)]
    if made:
        tables.append(_effects_table(entries, made))
    if several and axis.name != METHOD:
        tables += [
            t for metric in HEADLINES if (t := _method_table(entries, axis, metric)) is not None and len(t.rows) > 1
        ]
    if categories := _category_table(entries, axis):
        tables.append(categories)
    fields = "" if axis.name == METHOD else f" ({', '.join(axis.fields)})"
    return Section(f"{axis.name}{fields}", notes, tables)


def _levels_table(entries: Sequence[Entry], axis: SweepAxis) -> Table:
    there = levels(entries, axis)
    columns = [c for c in _columns() if any(c.metric in level.figures for level in there)]
    shown = [name for name in _COSTS if any(name in level.costs for level in there)]
    # What is the same for all values (a reward model's accuracy, where the axis is another) says nothing here.
    shown = [n for n in shown if "tokens" in n or "dollars" in n or len({lv.costs.get(n) for lv in there}) > 1]
    heads = [axis.name, "rows", *(_head(c) for c in columns), *shown]
    rows = []
    for level in there:
        figures = [_number(level.figures.get(c.metric), c.decimals) for c in columns]
        spent = [_number(level.costs.get(name), _COSTS[name]) for name in shown]
        rows.append([level.value, str(level.rows), *figures, *spent])
    return Table("Means over the rows of each value", heads, rows, 1)


def _effects_table(entries: Sequence[Entry], made: Sequence[Effect]) -> Table:
    seeds = any(e.over_seeds for e in made)
    heads = ["value", "against", "metric", "difference", "p", "after Holm", "prompts", "pairs of rows"]
    rows = []
    for e in made:
        c = e.comparison
        line = [e.value, e.against, comparison_title(e.metric, entries), _difference(e), f"{c.p:.2g}"]
        line += [f"{c.adjusted_p:.2g}", f"{c.prompts:,}", str(e.pairs)]
        rows.append([*line, *([_over_seeds(e)] if seeds else [])])
    return Table("Differences", [*heads, *(["over seeds, mean ± sd"] if seeds else [])], rows, 3)


def _over_seeds(effect: Effect) -> str:
    if effect.over_seeds is None:
        return "–"
    mean, spread = effect.over_seeds
    decimals = comparison_decimals(effect.metric)
    return f"{_signed(mean, decimals)} ± {number(spread, decimals)} (n={len(effect.by_seed)})"


def _method_table(entries: Sequence[Entry], axis: SweepAxis, metric: str) -> Table | None:
    column = next((c for c in _columns() if c.metric == metric), None)
    found = by_method(entries, axis, metric)
    if column is None or not found:
        return None
    there = [v for v in axis.values if any(v in row for row in found.values())]
    rows = [[name, *(_number(row.get(v), column.decimals) for v in there)] for name, row in found.items()]
    return Table(f"{_head(column)}, method × {axis.name}", ["method", *there], rows, 1)


def _category_table(entries: Sequence[Entry], axis: SweepAxis) -> Table | None:
    there = levels(entries, axis)
    columns = [c for c in CATEGORIES if any(c.metric in level.figures for level in there)]
    if not columns:
        return None
    rows = [[lv.value, *(_number(lv.figures.get(c.metric), c.decimals) for c in columns)] for lv in there]
    return Table("MT-bench by category", [axis.name, *(c.title for c in columns)], rows, 1)


def _edge_section(entries: Sequence[Entry], made: Sequence[Edge]) -> Section:
    heads = ["method", "against", "matched", "steps", "tokens", "metric", "difference", "p", "after Holm"]
    rows, notes = [], []
    for edge in made:
        ratios = [f"{r:.2f} ×" if r is not None else "–" for r in (edge.steps, edge.tokens)]
        for e in edge.effects:
            title = comparison_title(e.metric, entries)
            line = [edge.method, edge.against, edge.matched, *ratios, title, _difference(e)]
            rows.append([*line, f"{e.comparison.p:.2g}", f"{e.comparison.adjusted_p:.2g}"])
        real = [e for e in edge.effects if e.comparison.is_real]
        basis = "at other steps and tokens" if edge.matched == "neither" else f"at matched {edge.matched}"
        said = "; ".join(f"{comparison_title(e.metric, entries)} {_in_words(e)}" for e in real)
        notes.append(f"{edge.method} less {edge.against}, {basis}: {said or 'no difference that is real'}.")
    for basis in ("steps", "tokens"):
        if not any(basis in edge.matched for edge in made):
            notes.append(f"No method on pairs was given Multi-DPO's {basis}: a method's field match does that.")
    return Section("Multi-DPO against training on pairs", notes, [Table("Multi-DPO less each", heads, rows, 3)])


def _columns() -> tuple[Column, ...]:
    return (*COLUMNS, Column("mt_bench.win_rate", "MT-bench", "win rate", "win %", 1, "%"))


def _head(column: Column) -> str:
    return f"{column.group} {column.title}{', ' + column.unit if column.unit else ''}"


def _difference(effect: Effect) -> str:
    decimals = comparison_decimals(effect.metric)
    low, high = (number(x, decimals) for x in effect.comparison.ci95)
    return f"{_signed(effect.comparison.difference, decimals)} [{low}, {high}]"


def _in_words(effect: Effect) -> str:
    decimals = comparison_decimals(effect.metric)
    low, high = (number(x, decimals) for x in effect.comparison.ci95)
    return f"{_signed(effect.comparison.difference, decimals)} ({low} to {high})"


def _signed(value: float, decimals: int) -> str:
    text = number(value, decimals)
    return text if text.startswith("-") or float(text) == 0 else f"+{text}"


def _number(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{round(value, decimals) + 0.0:,.{decimals}f}"
