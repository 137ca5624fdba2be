"""The charts of a sweep: the effect of each axis with intervals, with the tokens generated for each value."""

from collections.abc import Sequence

from harness.boards.catalog import Figures, by_group
from harness.boards.entry import Entry
from harness.boards.facts import row_costs
from harness.claims.cells import Level, SweepAxis, axes_of, levels
from harness.claims.effects import Effect, effects
from harness.figures import Figure
from harness.report.page.answer import difference_point
from harness.report.page.charts import Chart, scatter
from harness.report.page.dots import Dots, Line, Panel, Point, dots, figure_panel
from harness.report.page.looks import Looks
from harness.report.page.words import figure_text


def sweep_charts(entries: Sequence[Entry], looks: Looks) -> list[Chart]:
    """For each axis, the differences from its first value and the figures by category; over all rows, the first
    headline figure against the share of generated prompts."""
    charts: list[Chart | None] = []
    categories = by_group(Figures(entries).categories)
    for axis in axes_of(entries):
        axis_levels = levels(entries, axis)
        if len(axis_levels) > 1:
            charts.append(_effects(entries, axis, axis_levels, looks))
            charts += [_categories(axis, axis_levels, name, group, looks) for name, group in categories.items()]
    if charts:
        charts.append(_shares(entries, looks))
    return [chart for chart in charts if chart is not None]


def _effects(entries: Sequence[Entry], axis: SweepAxis, axis_levels: Sequence[Level], looks: Looks) -> Dots | None:
    """A panel for each headline figure, a line for each value, the first one at zero."""
    figures = Figures(entries)
    headlines = {figure.metric for figure in figures.headlines}
    by_metric: dict[str, dict[str, Effect]] = {}
    for effect in effects(entries, axis):
        if effect.metric in headlines:
            by_metric.setdefault(effect.metric, {})[effect.value] = effect
    if not by_metric:
        return None
    first = axis.values[0]
    lines = []
    for value in axis.values:
        points: list[Point | None] = []
        for of_value in by_metric.values():
            if value == first:
                points.append(Point(0.0, None, f"{first}: what the others are compared with"))
            else:
                points.append(difference_point(of_value[value])[0] if value in of_value else None)
        if any(point is not None for point in points):
            lines.append(Line(_named(value, axis_levels), looks[value], tuple(points)))
    panels = [Panel(figures[metric].difference_head, 0.0, signs=True) for metric in by_metric]
    return dots(f"{axis.name}: difference against {first}", panels, lines, "With 95 % CI. Filled: significant.")


def _named(value: str, axis_levels: Sequence[Level]) -> str:
    """The value, and the number of tokens generated for it."""
    level = next((lv for lv in axis_levels if lv.value == value), None)
    tokens = level.costs.get("generated tokens") if level else None
    return value if tokens is None else f"{value} ({_amount(tokens)} tokens generated)"


def _amount(tokens: float) -> str:
    return f"{tokens:,.0f}" if tokens < 1e4 else f"{tokens / 1e3:,.0f}k" if tokens < 1e6 else f"{tokens / 1e6:,.1f}M"


def _categories(
    axis: SweepAxis, axis_levels: Sequence[Level], name: str, figures: Sequence[Figure], looks: Looks
) -> Dots | None:
    """A panel for each category, a line for each value: means over its rows, and so without intervals."""
    columns = [c for c in figures if all(c.metric in level.figures for level in axis_levels)]
    if not columns:
        return None
    lines = []
    for level in axis_levels:
        values = [(level.figures[c.metric], c) for c in columns]
        points = tuple(Point(x, None, f"{level.value}, {c.title}: {figure_text(x, c.decimals)}") for x, c in values)
        lines.append(Line(level.value, looks[level.value], points))
    panels = [figure_panel(column, column.title) for column in columns]
    note = "Means over the rows of each value, on one axis."
    return dots(f"{axis.name}: {name} by category", panels, lines, note, shared=True)


def _shares(entries: Sequence[Entry], looks: Looks) -> Chart | None:
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
    return scatter(points, looks, f"New prompts and {first.title}", "share of new prompts in training", first.head)
