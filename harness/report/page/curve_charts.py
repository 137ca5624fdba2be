"""The charts of learning curves: each figure against optimizer steps, a curve for each training; and the scores by a
known truth and by its proxy against the divergence that training has reached (2210.10760, figure 1)."""

from collections.abc import Callable, Sequence

from harness.boards.catalog import present
from harness.boards.entry import Entry
from harness.claims.curves import LearningCurve, Stop, learning_curves
from harness.figures import KL, REWARD_FIGURES, Figure
from harness.report.curves import after, curve_figures
from harness.report.page.dots import metric_text
from harness.report.page.looks import Looks, short
from harness.report.page.plane import Plane, Series, plane

SAME_RATE = 1.02
"""Tokens for a step, over those of another training, up to which the two have the same."""
MOST_CURVES = 20
"""Curves in a chart: the first ones."""


def curve_charts(entries: Sequence[Entry], looks: Looks) -> list[Plane]:
    """A chart for each figure that at least one training has at two checkpoints; against tokens, too, where trainings
    take unequally many for a step."""
    curves = learning_curves(entries)[:MOST_CURVES]
    if not curves:
        return []
    rows = [stop.entry for curve in curves for stop in curve.stops]
    charts: list[Plane | None] = []
    for figure in curve_figures(rows):
        charts.append(_over_steps(figure, curves, looks))
        charts += [_over_tokens(figure, curves, looks)] if _differ_in_tokens(curves) else []
    charts += [_over_divergence(figure, curves, looks) for figure in present(REWARD_FIGURES, rows)]
    return [chart for chart in charts if chart is not None]


def _differ_in_tokens(curves: Sequence[LearningCurve]) -> bool:
    """Whether curves against tokens look otherwise than against steps."""
    ends = [curve.stops[-1] for curve in curves]
    rates = [stop.tokens / stop.steps for stop in ends if stop.tokens and stop.steps]
    return bool(rates) and max(rates) > SAME_RATE * min(rates)


def _over_steps(figure: Figure, curves: Sequence[LearningCurve], looks: Looks) -> Plane | None:
    title = f"{figure.group} {figure.title} over training".strip()
    return _chart(title, "optimizer steps", figure, curves, looks, lambda stop: (float(stop.steps), after(stop.steps)))


def _over_tokens(figure: Figure, curves: Sequence[LearningCurve], looks: Looks) -> Plane | None:
    def at(stop: Stop) -> tuple[float, str] | None:
        return None if stop.tokens is None else (float(stop.tokens), f"{after(stop.steps)}, {stop.tokens:,} tokens,")

    title = f"{figure.group} {figure.title} by tokens".strip()
    return _chart(title, "tokens through the policy", figure, curves, looks, at)


def _over_divergence(figure: Figure, curves: Sequence[LearningCurve], looks: Looks) -> Plane | None:
    def at(stop: Stop) -> tuple[float, str] | None:
        kl = stop.metric(KL.metric)
        return None if kl is None or kl.value is None else (kl.value, f"{after(stop.steps)} at {metric_text(kl, KL)}")

    title = f"{figure.group} {figure.title} against divergence"
    return _chart(title, KL.head, figure, curves, looks, at)


def _chart(
    title: str,
    across: str,
    figure: Figure,
    curves: Sequence[LearningCurve],
    looks: Looks,
    at: Callable[[Stop], tuple[float, str] | None],
) -> Plane | None:
    """`at`: where a checkpoint is on the horizontal axis, and in words; None: it isn't there."""
    series, legend = [], []
    for curve in curves:
        metrics = [(at(stop), stop.metric(figure.metric)) for stop in curve.stops]
        known = [(x, m.value, m.ci95, metric_text(m, figure)) for x, m in metrics if x and m and m.value is not None]
        if len(known) < 2:
            continue
        texts = "; ".join(f"{words} {text}" for (_, words), _, _, text in known)
        look = looks[curve.last.id]
        points = tuple((place, value) for (place, _), value, _, _ in known)
        intervals = tuple(interval for _, _, interval, _ in known)
        series.append(
            Series(curve.last.id, look, points, f"{curve.last.id}: {texts}", joined=True, intervals=intervals)
        )
        legend.append((short(curve.last.id), look))
    if not series:
        return None
    note = "With 95 % CI." if any(any(one.intervals) for one in series) else ""
    return plane(title, across, figure.head, series, legend, note)
