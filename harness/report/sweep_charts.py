"""The charts of a sweep: the effect of each axis with intervals, with the tokens generated for each value."""

from collections.abc import Sequence
from typing import Any

from harness.boards.catalog import Figures, by_group
from harness.boards.effects import Effect, Level, SweepAxis, axes_of, effects, levels
from harness.boards.entry import Entry
from harness.boards.facts import row_costs
from harness.figures import Figure
from harness.report.charts import COLOURS, Chart, draw_chart, scatter

PANEL_WIDTH = 3.1
"""Width of one panel, in inches."""


def sweep_charts(entries: Sequence[Entry]) -> list[Chart]:
    """For each axis, the differences from its first value and the figures by category; over all rows, the first
    headline figure against the share of generated prompts."""
    charts: list[Chart | None] = []
    categories = by_group(Figures(entries).categories)
    for axis in axes_of(entries):
        axis_levels = levels(entries, axis)
        if len(axis_levels) > 1:
            charts += [_effects(entries, axis, axis_levels)]
            charts += [_categories(axis, axis_levels, group, figures) for group, figures in categories.items()]
    if charts:
        charts.append(_shares(entries))
    return [chart for chart in charts if chart is not None]


def _effects(entries: Sequence[Entry], axis: SweepAxis, axis_levels: Sequence[Level]) -> Chart | None:
    figures = Figures(entries)
    headlines = {figure.metric for figure in figures.headlines}
    by_metric: dict[str, list[Effect]] = {}
    for effect in effects(entries, axis):
        if effect.metric in headlines:
            by_metric.setdefault(effect.metric, []).append(effect)
    if not by_metric:
        return None
    positions, ticks = _positions(axis)

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(by_metric), squeeze=False)[0]
        for panel, (metric, metric_effects), colour in zip(panels, by_metric.items(), COLOURS, strict=False):
            points = [(positions[axis.values[0]], 0.0, (0.0, 0.0))]
            points += [(positions[e.value], e.comparison.difference, e.comparison.ci95) for e in metric_effects]
            panel.axhline(0, lw=1, ls=":", color="#888888")
            for x, _, interval in points:
                panel.plot([x, x], interval, color=colour, lw=3, alpha=0.45, solid_capstyle="round")
            style = "o-" if ticks is None else "o"
            panel.plot([x for x, _, _ in points], [y for _, y, _ in points], style, color=colour, ms=6)
            panel.set_xticks(list(positions.values()), [_tick(v, axis_levels) for v in positions], fontsize=8)
            panel.set_title(figures[metric].difference_head, fontsize=9)
            panel.grid(axis="y", alpha=0.25)
            panel.margins(x=0.15)
        panels[0].set_ylabel(f"difference against {axis.values[0]}")
        figure.supxlabel(axis.name, fontsize=9)

    words = "; ".join(
        f"{figures[m].difference_head} {e.value}: {e.comparison.difference:+.3g}"
        for m, metric_effects in by_metric.items()
        for e in metric_effects
    )
    return draw_chart(
        f"{axis.name}: difference against {axis.values[0]}", words, draw, (PANEL_WIDTH * len(by_metric) + 0.6, 3.0)
    )._replace(wide=len(by_metric) > 1)


def _positions(axis: SweepAxis) -> tuple[dict[str, float], list[str] | None]:
    """(x of each value, None); with values that are not numbers, (their index, their names)."""
    try:
        return {value: float(value) for value in axis.values}, None
    except ValueError:
        return {value: float(i) for i, value in enumerate(axis.values)}, list(axis.values)


def _tick(value: str, axis_levels: Sequence[Level]) -> str:
    """The value, and below it the number of tokens generated for it."""
    level = next((lv for lv in axis_levels if lv.value == value), None)
    tokens = level.costs.get("generated tokens") if level else None
    short = value if len(value) <= 16 else value[:15] + "…"
    return short if tokens is None else f"{short}\n{_amount(tokens)} tok."


def _amount(tokens: float) -> str:
    return f"{tokens:,.0f}" if tokens < 1e4 else f"{tokens / 1e3:,.0f}k" if tokens < 1e6 else f"{tokens / 1e6:,.1f}M"


def _categories(axis: SweepAxis, axis_levels: Sequence[Level], group: str, figures: Sequence[Figure]) -> Chart | None:
    columns = [c for c in figures if all(c.metric in level.figures for level in axis_levels)]
    if not columns:
        return None
    positions, _ = _positions(axis)

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for column, colour in zip(columns, COLOURS, strict=False):
            points = [(positions[lv.value], lv.figures[column.metric]) for lv in axis_levels]
            axes.plot(*zip(*points, strict=True), "o-", color=colour, lw=1.6, ms=4, label=column.title)
        axes.set_xticks(list(positions.values()), list(positions), fontsize=8)
        axes.set_xlabel(axis.name)
        axes.set_ylabel(group)
        axes.grid(alpha=0.25)
        axes.margins(x=0.12)
        figure.legend(loc="outside right center", frameon=False)

    words = "; ".join(
        f"{lv.value}: " + ", ".join(f"{c.title} {lv.figures[c.metric]:.2f}" for c in columns) for lv in axis_levels
    )
    return draw_chart(f"{axis.name}: {group} by category", words, draw, (6.4, 3.4))


def _shares(entries: Sequence[Entry]) -> Chart | None:
    points, headlines = [], Figures(entries).headlines
    if not headlines:
        return None
    first = headlines[0]
    for entry in entries:
        score, share = entry.value(first.metric), row_costs(entry).get("generated share")
        if entry.provenance.training and share is not None and score is not None:
            points.append((entry, share, score))
    if len({share for _, share, _ in points}) < 2:
        return None
    title = f"New prompts and {first.title}"
    return scatter(entries, points, title, "share of new prompts in training", first.head)
