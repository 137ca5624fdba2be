"""The charts of a sweep: what each thing that was varied has changed, with intervals, and what it cost."""

from collections.abc import Sequence
from typing import Any

from harness.board_data import cost_of
from harness.board_pairs import comparison_title
from harness.board_rows import CATEGORIES, Entry
from harness.board_sweep import HEADLINES
from harness.effects import Effect, Level, SweepAxis, axes_of, effects, levels
from harness.report.charts import COLOURS, Chart, drawn, scatter

PANEL = 3.1
"""Inches that one panel is wide."""


def sweep_charts(entries: Sequence[Entry]) -> list[Chart]:
    """For each axis the differences against its first value and MT-bench by category; over all rows, the share of new
    prompts against the win rate."""
    made: list[Chart | None] = []
    for axis in axes_of(entries):
        there = levels(entries, axis)
        if len(there) > 1:
            made += [_effects(entries, axis, there), _categories(axis, there)]
    if made:
        made.append(_shares(entries))
    return [chart for chart in made if chart is not None]


def _effects(entries: Sequence[Entry], axis: SweepAxis, there: Sequence[Level]) -> Chart | None:
    by_metric: dict[str, list[Effect]] = {}
    for effect in effects(entries, axis):
        if effect.metric in HEADLINES:
            by_metric.setdefault(effect.metric, []).append(effect)
    if not by_metric:
        return None
    places, ticks = _places(axis)

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(by_metric), squeeze=False)[0]
        for panel, (metric, made), colour in zip(panels, by_metric.items(), COLOURS, strict=False):
            points = [(places[axis.values[0]], 0.0, (0.0, 0.0))]
            points += [(places[e.value], e.comparison.difference, e.comparison.ci95) for e in made]
            panel.axhline(0, lw=1, ls=":", color="#888888")
            for x, _, interval in points:
                panel.plot([x, x], interval, color=colour, lw=3, alpha=0.45, solid_capstyle="round")
            style = "o-" if ticks is None else "o"
            panel.plot([x for x, _, _ in points], [y for _, y, _ in points], style, color=colour, ms=6)
            panel.set_xticks(list(places.values()), [_tick(v, there) for v in places], fontsize=8)
            panel.set_title(comparison_title(metric, entries), fontsize=9)
            panel.grid(axis="y", alpha=0.25)
            panel.margins(x=0.15)
        panels[0].set_ylabel(f"difference against {axis.values[0]}")
        figure.supxlabel(axis.name, fontsize=9)

    words = "; ".join(
        f"{comparison_title(m, entries)} {e.value}: {e.comparison.difference:+.3g}"
        for m, made in by_metric.items()
        for e in made
    )
    return drawn(
        f"{axis.name}: difference against {axis.values[0]}", words, draw, (PANEL * len(by_metric) + 0.6, 3.0)
    )._replace(wide=len(by_metric) > 1)


def _places(axis: SweepAxis) -> tuple[dict[str, float], list[str] | None]:
    """Where each value stands, and names where values are no numbers."""
    try:
        return {value: float(value) for value in axis.values}, None
    except ValueError:
        return {value: float(i) for i, value in enumerate(axis.values)}, list(axis.values)


def _tick(value: str, there: Sequence[Level]) -> str:
    """The value, and below it what was generated for it."""
    level = next((lv for lv in there if lv.value == value), None)
    tokens = level.costs.get("generated tokens") if level else None
    short = value if len(value) <= 16 else value[:15] + "…"
    return short if tokens is None else f"{short}\n{_amount(tokens)} tok."


def _amount(tokens: float) -> str:
    return f"{tokens:,.0f}" if tokens < 1e4 else f"{tokens / 1e3:,.0f}k" if tokens < 1e6 else f"{tokens / 1e6:,.1f}M"


def _categories(axis: SweepAxis, there: Sequence[Level]) -> Chart | None:
    columns = [c for c in CATEGORIES if all(c.metric in level.figures for level in there)]
    if not columns:
        return None
    places, _ = _places(axis)

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for column, colour in zip(columns, COLOURS, strict=False):
            points = [(places[lv.value], lv.figures[column.metric]) for lv in there]
            axes.plot(*zip(*points, strict=True), "o-", color=colour, lw=1.6, ms=4, label=column.title)
        axes.set_xticks(list(places.values()), list(places), fontsize=8)
        axes.set_xlabel(axis.name)
        axes.set_ylabel("MT-bench")
        axes.grid(alpha=0.25)
        axes.margins(x=0.12)
        figure.legend(loc="outside right center", frameon=False)

    words = "; ".join(
        f"{lv.value}: " + ", ".join(f"{c.title} {lv.figures[c.metric]:.2f}" for c in columns) for lv in there
    )
    return drawn(f"{axis.name}: MT-bench by category", words, draw, (6.4, 3.4))


def _shares(entries: Sequence[Entry]) -> Chart | None:
    points = []
    for entry in entries:
        won, share = entry.metrics.get("alpaca_eval.win_rate"), cost_of(entry).get("generated share")
        if entry.section("training") and share is not None and won is not None and won.value is not None:
            points.append((entry, share, won.value))
    if len({share for _, share, _ in points}) < 2:
        return None
    return scatter(entries, points, "New prompts and win rate", "share of new prompts in training", "win rate, %")
