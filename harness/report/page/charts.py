"""The page's charts of a board: figures with intervals, categories, turns, training losses, the reward model."""

from collections.abc import Sequence
from typing import Any

from harness.boards.catalog import Figures, by_group
from harness.boards.entry import Entry, comparable
from harness.boards.facts import one_a_training
from harness.figures import Figure
from harness.report.page.best_of import best_of_charts
from harness.report.page.dots import Dots, Line, Panel, dots, figure_panel, metric_point, metric_text
from harness.report.page.looks import Look, Looks
from harness.report.page.plane import Plane, Series, plane

MOST_LINES = 40
"""Rows in a chart at the most: the first ones."""

Chart = Dots | Plane


def board_charts(entries: Sequence[Entry], looks: Looks) -> list[Chart]:
    """The charts that the board has data for. Rows of different tables never stand in one chart of figures."""
    charts: list[Chart | None] = []
    tables = comparable(entries)
    for number, rows in enumerate(tables, 1):
        place = f" (table {number})" if len(tables) > 1 else ""
        figures = Figures(rows)
        charts.append(_figures(rows, figures.compared, looks, place))
        for group, categories in by_group(figures.categories).items():
            charts.append(_by_category(rows, categories, looks, f"{group} by category{place}"))
        for group, of_group in by_group(figures.board).items():
            charts.append(_turns(rows, of_group, looks, f"{group}: first and second turn{place}"))
    charts += [_losses(entries, looks), _reward(entries, looks), *best_of_charts(entries)]
    return [chart for chart in charts if chart is not None]


def _figures(entries: Sequence[Entry], figures: Sequence[Figure], looks: Looks, place: str) -> Dots | None:
    """A panel for each figure that several rows have; None without any."""
    measured = [f for f in figures if sum(entry.value(f.metric) is not None for entry in entries) > 1]
    if not measured:
        return None
    title = f"{measured[0].head if len(measured) == 1 else 'Figures'}{place}"
    panels = [figure_panel(figure) for figure in measured]
    return dots(title, panels, _lines(entries, measured, looks), "With 95 % CI." + _cut(len(entries)))


def _by_category(entries: Sequence[Entry], categories: Sequence[Figure], looks: Looks, title: str) -> Dots | None:
    """A panel for each category, all on one axis."""
    measured = [f for f in categories if any(entry.value(f.metric) is not None for entry in entries)]
    if len(measured) < 2:
        return None
    panels = [figure_panel(figure, figure.title) for figure in measured]
    has_intervals = any((m := e.metrics.get(f.metric)) is not None and m.ci95 for e in entries for f in measured)
    note = "One axis for all categories" + (", with 95 % CI." if has_intervals else ".")
    return dots(title, panels, _lines(entries, measured, looks), note + _cut(len(entries)), shared=True)


def _turns(entries: Sequence[Entry], figures: Sequence[Figure], looks: Looks, title: str) -> Dots | None:
    """The first and the second turn of a benchmark that has both, on one axis."""
    by_turn = {figure.pairing.turn: figure for figure in figures if figure.pairing and figure.pairing.turn}
    if not {1, 2} <= by_turn.keys():
        return None
    turns = [by_turn[1], by_turn[2]]
    if not any(entry.value(turn.metric) is not None for entry in entries for turn in turns):
        return None
    panels = [Panel("first turn", limits=turns[0].limits), Panel("second turn", limits=turns[1].limits)]
    return dots(title, panels, _lines(entries, turns, looks), "One axis for both." + _cut(len(entries)), shared=True)


def _lines(entries: Sequence[Entry], figures: Sequence[Figure], looks: Looks) -> list[Line]:
    lines = []
    for entry in entries[:MOST_LINES]:
        points = tuple(metric_point(entry.id, entry.metrics.get(figure.metric), figure) for figure in figures)
        text = metric_text(entry.metrics.get(figures[0].metric), figures[0]) if len(figures) == 1 else ""
        lines.append(Line(entry.id, looks[entry.id], points, text))
    return lines


def _cut(rows: int) -> str:
    return f" The first {MOST_LINES} of {rows} rows." if rows > MOST_LINES else ""


def _losses(entries: Sequence[Entry], looks: Looks) -> Plane | None:
    """Training loss by step: each row's recorded curve, else a line from its first to its last loss."""
    series = []
    for entry in one_a_training(entries):
        training = entry.provenance.training
        if training is None:
            continue
        curve: Sequence[tuple[Any, Any]] = training.curve
        ends = ((1, training.first_loss), (training.steps, training.last_loss))
        points = tuple((float(x), float(y)) for x, y in curve or ends if x is not None and y is not None)
        if len(points) > 1:
            title = f"{entry.id}: from {points[0][1]:.3g} to {points[-1][1]:.3g} in {points[-1][0]:,.0f} steps"
            series.append(Series(entry.id, looks[entry.id], points, title, joined=True))
    if not series:
        return None
    legend = legend_of([one.name for one in series], looks)
    title, up = "Training loss", "loss (each method's own)"
    return plane(title, "optimizer step", up, series[:MOST_LINES], legend, _cut(len(series)).strip())


def _reward(entries: Sequence[Entry], looks: Looks) -> Plane | None:
    """The first headline figure against the reward model's accuracy on held-out pairs."""
    headlines = Figures(entries).headlines
    if not headlines:
        return None
    points, first = [], headlines[0]
    for entry in entries:
        accuracy = (entry.provenance.data.get("reward", {}).get("heldout_accuracy") or {}).get("value")
        score = entry.value(first.metric)
        if entry.method != "base" and accuracy is not None and score is not None:
            points.append((entry, float(accuracy), score))
    if len({x for _, x, _ in points}) < 2:
        return None
    return scatter(points, looks, f"Reward model and {first.title}", "accuracy on held-out pairs", first.head)


def scatter(points: Sequence[tuple[Entry, float, float]], looks: Looks, title: str, across: str, up: str) -> Plane:
    """A chart of rows as points (row, x, y)."""
    series = [
        Series(entry.id, looks[entry.id], ((x, y),), f"{entry.id}: {across} {x:.3g}, {up} {y:.3g}")
        for entry, x, y in points
    ]
    return plane(title, across, up, series, legend_of([entry.id for entry, _, _ in points], looks))


def legend_of(rows: Sequence[str], looks: Looks) -> list[tuple[str, Look]]:
    """What the looks of these rows stand for: methods or rows, without repetition."""
    return [(name, looks[name]) for name in dict.fromkeys(looks.groups.get(row, row) for row in rows)]
