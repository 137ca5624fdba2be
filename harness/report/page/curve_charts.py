"""The charts of learning curves: each figure against optimizer steps, a curve for each training."""

from collections.abc import Sequence

from harness.boards.entry import Entry
from harness.claims.curves import LearningCurve, learning_curves
from harness.figures import Figure
from harness.report.curves import after, curve_figures
from harness.report.page.dots import metric_text
from harness.report.page.looks import Looks, short
from harness.report.page.plane import Plane, Series, plane

MOST_CURVES = 20
"""Curves in a chart: the first ones."""


def curve_charts(entries: Sequence[Entry], looks: Looks) -> list[Plane]:
    """A chart for each figure that at least one training has at two checkpoints."""
    curves = learning_curves(entries)[:MOST_CURVES]
    rows = [stop.entry for curve in curves for stop in curve.stops]
    charts = [_chart(figure, curves, looks) for figure in curve_figures(rows)] if curves else []
    return [chart for chart in charts if chart is not None]


def _chart(figure: Figure, curves: Sequence[LearningCurve], looks: Looks) -> Plane | None:
    series, legend = [], []
    for curve in curves:
        at = [(stop, stop.entry.metrics.get(figure.metric)) for stop in curve.stops]
        known = [(s.steps, m.value, m.ci95, metric_text(m, figure)) for s, m in at if m and m.value is not None]
        if len(known) < 2:
            continue
        texts = "; ".join(f"{after(steps)} {text}" for steps, _, _, text in known)
        look = looks[curve.last.id]
        points = tuple((float(steps), value) for steps, value, _, _ in known)
        intervals = tuple(interval for _, _, interval, _ in known)
        title = f"{curve.last.id}: {texts}"
        series.append(Series(curve.last.id, look, points, title, joined=True, intervals=intervals))
        legend.append((short(curve.last.id), look))
    if not series:
        return None
    note = "With 95 % CI." if any(any(one.intervals) for one in series) else ""
    title = f"{figure.group} {figure.title} over training".strip()
    return plane(title, "optimizer steps", figure.head, series, legend, note)
