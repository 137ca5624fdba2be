"""A sweep's part of a board: one section per axis, whose notes and tables Markdown, the page and the terminal draw."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.boards.catalog import Figures, by_group
from harness.boards.entry import Entry
from harness.boards.format import bounds, number, signed, visible
from harness.claims.cells import METHOD, SweepAxis, axes_of, by_method, levels
from harness.claims.effects import Edge, Effect, edges, effects
from harness.figures import Figure
from harness.printable import printable
from harness.report.markup import bullets, escape_markdown, table
from harness.stats.crossed import Crossed

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

HOW_VARIED = (
    "A difference compares rows that differ in nothing else, prompt by prompt, pooled over everything else that was "
    "varied, with its 95 % CI, and Holm's correction over the axis's values. With several training seeds, seeds and "
    "prompts are both random and the difference is one of methods; with one seed it is about these trained rows. All "
    "of this is exploratory beside the run's primary comparisons. Costs are the mean cost of a row produced on its own."
)
_WENT_IN = {
    "Data": {"reward accuracy": 3, "generated share": 2, "prompts' self-BLEU": 1, "responses' self-BLEU": 1},
    "Costs": {"generated tokens": 0, "training tokens": 0, "judge tokens": 0, "judge dollars": 4},
}
"""What went into a row, by table, with its decimals: narrow enough for a terminal."""


class SweepTable(NamedTuple):
    """A titled table of texts; the first `left` columns hold words, the others figures."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    left: int


class SweepSection(NamedTuple):
    """The notes and tables on one axis."""

    title: str
    notes: list[str]
    tables: list[SweepTable]


def sweep_sections(entries: Sequence[Entry]) -> list[SweepSection]:
    """One section per axis, then Multi-DPO against pairs. A board without a sweep has only the last one, and only where
    training budgets were matched."""
    axes = axes_of(entries)
    sections = [_axis_section(entries, axis, several=METHOD in [a.name for a in axes]) for axis in axes]
    matched = any(entry.provenance.match_to for entry in entries)
    if (axes or matched) and (multi_dpo := edges(entries)):
        sections.append(_edge_section(entries, multi_dpo))
    return [section for section in sections if section is not None]


def sweep_markdown(entries: Sequence[Entry]) -> list[str]:
    """The sections as Markdown."""
    sections = sweep_sections(entries)
    parts = ["## What was varied", HOW_VARIED] if sections else []
    for section in sections:
        parts.append(f"### {escape_markdown(section.title)}")
        parts += [bullets(escape_markdown(note) for note in section.notes)] if section.notes else []
        for content in section.tables:
            # Words come from recipes and are escaped; figures are formatted here.
            rows = [[escape_markdown(c) if i < content.left else c for i, c in enumerate(row)] for row in content.rows]
            heads = [escape_markdown(head) for head in content.heads]
            parts += [f"{escape_markdown(content.title)}:", table(heads, rows, left=content.left)]
    return parts


def verdict(effect: Effect, entries: Sequence[Entry]) -> str:
    """An effect in one line: `4 against 2: AlpacaEval win rate, percentage points +3.1 (0.4 to 5.8), p 0.02`."""
    figure = Figures(entries)[effect.metric]
    return (
        f"{effect.value} against {effect.against}: {figure.difference_head} "
        f"{_difference_to(effect, figure)}, p {effect.adjusted_p:.2g}"
    )


def sweep_of_figure(entries: Sequence[Entry], figure: Figure, told: str) -> list[SweepSection]:
    """The same by one figure alone: each difference in a line, its means by method, its data and costs, and the
    benchmarks' categories. `told`: the axis whose differences stand elsewhere."""
    sections = []
    for axis in axes_of(entries):
        found = effects(entries, axis) if axis.name != told else []
        notes = [verdict(e, entries) for e in found if e.metric == figure.metric]
        by_value = _method_table(entries, axis, figure) if axis.name != METHOD else None
        tables = [_upright(by_value, axis)] if by_value is not None and len(by_value.rows) > 1 else []
        if axis.name != METHOD:
            tables += [*_went_in_tables(entries, axis), *_category_tables(entries, axis)]
        if notes or tables:
            sections.append(SweepSection(f"By {axis.name}", notes, tables))
    return sections


def sweep_terminal(sections: Sequence[SweepSection], width: int) -> "Iterator[RenderableType]":
    """Sections for a terminal, with the tables that fit."""
    from rich.text import Text

    for section in sections:
        fitting = [content for content in section.tables if _width(content) <= width]
        if not fitting and not section.notes:
            continue
        yield Text.assemble("\n", (_shown(section.title), "bold"))
        yield from (Text(_shown(note), style="dim") for note in section.notes)
        for content in fitting:
            yield Text.assemble("\n", _shown(content.title))
            yield _drawn(content)


_GAP = 2


def _width(content: SweepTable) -> int:
    """Character cells of a table that is drawn."""
    from rich.cells import cell_len

    columns = zip(content.heads, *content.rows, strict=True)
    return sum(_GAP + max(cell_len(_shown(text)) for text in column) for column in columns)


def _drawn(content: SweepTable) -> "Table":
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for i, head in enumerate(content.heads):
        drawn.add_column(Text(_shown(head)), justify="left" if i < content.left else "right", no_wrap=True)
    for row in content.rows:
        drawn.add_row(*(Text(_shown(text)) for text in row))  # as text: a name's brackets are no markup
    return drawn


def _shown(text: str) -> str:
    return printable(visible(text))


def _axis_section(entries: Sequence[Entry], axis: SweepAxis, several: bool) -> SweepSection | None:
    if len(levels(entries, axis)) < 2:
        return None
    axis_effects, figures = effects(entries, axis), Figures(entries)
    significant = [e for e in axis_effects if e.is_significant]
    notes = [verdict(e, entries) for e in significant] or ["No difference is significant at the 5 % level."]
    if axis_effects:
        detectable: dict[str, float] = {}
        for e in axis_effects:
            detectable[e.metric] = max(detectable.get(e.metric, 0.0), e.detectable)
        sizes = ", ".join(f"{figures[m].difference_head} {_size(x, figures[m])}" for m, x in detectable.items())
        notes.append(f"Minimum detectable effect at 80 % power: {sizes}.")
    tables = [_levels_table(entries, axis), *_went_in_tables(entries, axis)]
    if axis_effects:
        tables.append(_effects_table(entries, axis_effects))
    if several and axis.name != METHOD:
        tables += [
            t for f in figures.headlines if (t := _method_table(entries, axis, f)) is not None and len(t.rows) > 1
        ]
    tables += _category_tables(entries, axis)
    fields = "" if axis.name == METHOD else f" ({', '.join(axis.fields)})"
    return SweepSection(f"{axis.name}{fields}", notes, tables)


def _levels_table(entries: Sequence[Entry], axis: SweepAxis) -> SweepTable:
    axis_levels = levels(entries, axis)
    columns = [f for f in Figures(entries).board if any(f.metric in level.figures for level in axis_levels)]
    heads = [axis.name, "rows", *(f.head for f in columns)]
    rows = []
    for level in axis_levels:
        figures = [_number(level.figures.get(c.metric), c.decimals) for c in columns]
        rows.append([level.value, str(level.rows), *figures])
    return SweepTable("Means over the rows of each value", heads, rows, 1)


def _went_in_tables(entries: Sequence[Entry], axis: SweepAxis) -> Iterator[SweepTable]:
    """What went into the rows of each value, as far as it is known and differs, and what they cost."""
    axis_levels = levels(entries, axis)
    for title, decimals in _WENT_IN.items():
        names = [name for name in decimals if any(level.costs.get(name) for level in axis_levels)]
        if title == "Data":  # what is the same for all values says nothing
            names = [name for name in names if len({lv.costs[name] for lv in axis_levels if name in lv.costs}) > 1]
        rows = [[lv.value, *(_number(lv.costs.get(name), decimals[name]) for name in names)] for lv in axis_levels]
        if names:
            yield SweepTable(f"{title}, means over the rows of each value", [axis.name, *names], rows, 1)


def _effects_table(entries: Sequence[Entry], axis_effects: Sequence[Effect]) -> SweepTable:
    heads = ["value", "against", "metric", "difference", "p", "after Holm", "prompts", "pairs of rows", "seeds"]
    rows, figures = [], Figures(entries)
    for e in axis_effects:
        figure = figures[e.metric]
        line = [e.value, e.against, figure.difference_head, _difference(e, figure), f"{e.p:.2g}"]
        line += [f"{e.adjusted_p:.2g}", f"{e.prompts:,}", str(e.pairs), str(e.seeds)]
        rows.append([*line, *_parts(e, figure)])
    parts = ["SE from prompts", "SE from trainings"] if any(e.seeds > 1 for e in axis_effects) else []
    rows = [row[: len(heads) + len(parts)] for row in rows]
    return SweepTable("Differences", [*heads, *parts], rows, 3)


def _parts(effect: Effect, figure: Figure) -> list[str]:
    """The two parts of the standard error, where seeds tell them apart."""
    if not isinstance(effect.estimate, Crossed):
        return ["–", "–"]
    decimals = figure.difference_decimals + 1
    return [number(x, decimals) for x in (effect.estimate.from_prompts, effect.estimate.from_trainings)]


def _method_table(entries: Sequence[Entry], axis: SweepAxis, figure: Figure) -> SweepTable | None:
    """One row per method, one column per value of the axis."""
    means = by_method(entries, axis, figure.metric)
    if not means:
        return None
    values = [v for v in axis.values if any(v in by_value for by_value in means.values())]
    rows = [
        [method, *(_number(by_value.get(v), figure.decimals) for v in values)] for method, by_value in means.items()
    ]
    return SweepTable(f"{figure.head}, method × {axis.name}", ["method", *values], rows, 1)


def _upright(content: SweepTable, axis: SweepAxis) -> SweepTable:
    """A table by method and value with the fewer of both side by side, so that it fits a terminal."""
    if len(content.heads) <= len(content.rows) + 1:
        return content
    heads, *rows = [list(line) for line in zip(content.heads, *content.rows, strict=True)]
    return SweepTable(content.title, [axis.name, *heads[1:]], rows, 1)


def _category_tables(entries: Sequence[Entry], axis: SweepAxis) -> list[SweepTable]:
    """One table per benchmark with categories."""
    axis_levels = levels(entries, axis)
    tables = []
    for group, figures in by_group(Figures(entries).categories).items():
        columns = [f for f in figures if any(f.metric in level.figures for level in axis_levels)]
        rows = [[lv.value, *(_number(lv.figures.get(f.metric), f.decimals) for f in columns)] for lv in axis_levels]
        if columns:
            tables.append(SweepTable(f"{group} by category", [axis.name, *(f.title for f in columns)], rows, 1))
    return tables


def _edge_section(entries: Sequence[Entry], multi_dpo: Sequence[Edge]) -> SweepSection:
    """Multi-DPO against each method on pairs."""
    heads = ["method", "against", "matched", "steps", "tokens", "metric", "difference", "p", "after Holm"]
    rows, notes, figures = [], [], Figures(entries)
    for edge in multi_dpo:
        ratios = [f"{r:.2f} ×" if r is not None else "–" for r in (edge.steps, edge.tokens)]
        for e in edge.effects:
            figure = figures[e.metric]
            line = [edge.method, edge.against, edge.matched, *ratios, figure.difference_head, _difference(e, figure)]
            rows.append([*line, f"{e.p:.2g}", f"{e.adjusted_p:.2g}"])
        found = [e for e in edge.effects if e.is_significant]
        basis = "at other steps and tokens" if edge.matched == "neither" else f"at matched {edge.matched}"
        texts = "; ".join(f"{figures[e.metric].difference_head} {_difference_to(e, figures[e.metric])}" for e in found)
        notes.append(f"{edge.method} minus {edge.against}, {basis}: {texts or 'no significant difference'}.")
        if edge.left_out:
            notes.append(
                f"{edge.left_out} pairs of rows at two responses a prompt are left out: there Multi-DPO is "
                f"{edge.against}."
            )
    for basis in ("steps", "tokens"):
        if not any(basis in edge.matched for edge in multi_dpo):
            notes.append(f"No method on pairs was given Multi-DPO's {basis}: a method's field match does that.")
    effects_table = SweepTable("Multi-DPO minus each", heads, rows, 3)
    return SweepSection("Multi-DPO against training on pairs", notes, [effects_table])


def _difference(effect: Effect, figure: Figure) -> str:
    """`+3.1 [0.4, 5.8]`, for a table."""
    shown = signed(effect.difference, figure.difference_decimals)
    if effect.ci95 is None:
        return f"{shown} (too few)"
    low, high = bounds(effect.ci95, figure.difference_decimals)
    return f"{shown} [{low}, {high}]"


def _difference_to(effect: Effect, figure: Figure) -> str:
    """`+3.1 (0.4 to 5.8)`, for a sentence."""
    shown = signed(effect.difference, figure.difference_decimals)
    if effect.ci95 is None:
        return f"{shown}, too few prompts to tell"
    low, high = bounds(effect.ci95, figure.difference_decimals)
    return f"{shown} ({low} to {high})"


def _size(detectable: float, figure: Figure) -> str:
    return number(detectable, figure.difference_decimals) if math.isfinite(detectable) else "none of any size"


def _number(value: float | None, decimals: int) -> str:
    """A number with thousands separators; `–` for None."""
    return "–" if value is None else f"{round(value, decimals) + 0.0:,.{decimals}f}"
