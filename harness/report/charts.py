"""The page's charts, drawn by matplotlib as SVG in two versions: for a light and for a dark background."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from harness.boards.catalog import Figures, by_group
from harness.boards.entry import Entry
from harness.figures import Figure

COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0", "#ff8ab7")
"""Observable's ten colours (2023), distinguishable on light and on dark."""
MOST_LINES = 12
"""Rows in a line chart at the most: the best by its figure. Scatter plots with more points have no labels."""


class Chart(NamedTuple):
    """A chart. `words`: its content as text, for readers who can't see it. `light`, `dark`: SVG texts. `wide`: it needs
    the page's whole width."""

    title: str
    words: str
    light: str
    dark: str
    wide: bool = False


def board_charts(entries: Sequence[Entry]) -> list[Chart]:
    """The charts that the board has data for."""
    figures = Figures(entries)
    charts = [_intervals(entries, figure) for figure in figures.compared]
    charts += [_radar(entries, categories, figures) for categories in by_group(figures.categories).values()]
    charts += [_turns(entries, group) for group in by_group(figures.board).values()]
    charts += [_losses(entries), _reward(entries, figures)]
    return [chart for chart in charts if chart is not None]


def _intervals(entries: Sequence[Entry], figure: Figure) -> Chart | None:
    metric = figure.metric
    rows = [(e, e.metrics[metric]) for e in entries if e.value(metric) is not None]
    if len(rows) < 2:
        return None
    rows = sorted(rows, key=lambda row: row[1].value or 0)[-40:]
    title = f"{figure.group} {figure.title}"
    unit = f" ({figure.unit})" if figure.unit else ""

    def draw(canvas: Any) -> None:
        axes = canvas.add_subplot()
        for y, (entry, result) in enumerate(rows):
            colour = _colour(entries, entry)
            if result.ci95:
                axes.plot(result.ci95, [y, y], color=colour, lw=3, alpha=0.45, solid_capstyle="round")
            axes.plot([result.value], [y], "o", color=colour, ms=6)
        axes.set_yticks(range(len(rows)), [_short(entry.id) for entry, _ in rows])
        axes.set_xlabel(f"{title}{unit}, with 95 % interval")
        axes.grid(axis="x", alpha=0.25)
        axes.margins(y=0.08)

    words = "; ".join(f"{entry.id} {result.value:.3g}" for entry, result in reversed(rows))
    return draw_chart(title, words, draw, (6.4, 1.1 + 0.34 * len(rows)))


def _radar(entries: Sequence[Entry], categories: Sequence[Figure], figures: Figures) -> Chart | None:
    measured = [c for c in categories if any(e.value(c.metric) is not None for e in entries)]
    rows = [e for e in entries if all(e.value(c.metric) is not None for c in measured)]
    if len(measured) < 3 or not rows:
        return None
    first = measured[0]
    headline = next((f.metric for f in figures.headlines if f.benchmark == first.benchmark), first.metric)
    rows = sorted(rows, key=lambda e: -(e.value(headline) or 0))[:MOST_LINES]

    def draw(figure: Any) -> None:
        from math import pi

        axes = figure.add_subplot(projection="polar")
        angles = [2 * pi * i / len(measured) for i in range(len(measured))]
        for entry in rows:
            values = [entry.value(c.metric) for c in measured]
            colour = _colour(entries, entry)
            axes.plot([*angles, angles[0]], [*values, values[0]], color=colour, lw=1.8, label=_short(entry.id))
        axes.set_xticks(angles, [c.title for c in measured])
        if first.limits:
            low, high = first.limits
            axes.set_ylim(low, high)
            axes.set_yticks([low + (high - low) * k / 5 for k in range(1, 6)])
        axes.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=2, frameon=False)

    words = "; ".join(f"{e.id}: " + ", ".join(f"{c.title} {e.value(c.metric):.2f}" for c in measured) for e in rows)
    return draw_chart(f"{first.group} by category", words, draw, (5.6, 5.6 + 0.16 * len(rows)))


def _turns(entries: Sequence[Entry], figures: Sequence[Figure]) -> Chart | None:
    """The second turn against the first, for a benchmark that has both."""
    by_turn = {figure.pairing.turn: figure for figure in figures if figure.pairing and figure.pairing.turn}
    if not {1, 2} <= by_turn.keys():
        return None
    points = [(e, e.value(by_turn[1].metric), e.value(by_turn[2].metric)) for e in entries]
    points = [(e, x, y) for e, x, y in points if x is not None and y is not None]
    title = f"{by_turn[1].group}: first and second turn"
    return scatter(entries, points, title, "first turn", "second turn", diagonal=True)


def _reward(entries: Sequence[Entry], figures: Figures) -> Chart | None:
    """The first headline figure against the reward model's accuracy on held-out pairs."""
    if not figures.headlines:
        return None
    points, first = [], figures.headlines[0]
    for entry in entries:
        accuracy = (entry.provenance.data.get("reward", {}).get("heldout_accuracy") or {}).get("value")
        score = entry.value(first.metric)
        if entry.method != "base" and accuracy is not None and score is not None:
            points.append((entry, accuracy, score))
    if len({x for _, x, _ in points}) < 2:
        return None
    title = f"Reward model and {first.title}"
    return scatter(entries, points, title, "accuracy on held-out pairs", first.head)


def scatter(
    entries: Sequence[Entry],
    points: Sequence[tuple[Entry, Any, Any]],
    title: str,
    x: str,
    y: str,
    diagonal: bool = False,
) -> Chart | None:
    """A scatter plot of (row, x, y); None for fewer than two points. `x`, `y`: labels of the axes. `diagonal`: also
    draw the line x = y."""
    if len(points) < 2:
        return None

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for entry, across, up in points:
            axes.plot([across], [up], "o", color=_colour(entries, entry), ms=7)
            if len(points) > MOST_LINES:
                continue
            axes.annotate(_short(entry.id), (across, up), xytext=(6, 4), textcoords="offset points", fontsize=8)
        if diagonal:
            axes.axline((points[0][1], points[0][1]), slope=1, lw=1, ls=":", color="#888888")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.margins(0.15)
        axes.grid(alpha=0.25)

    words = "; ".join(f"{e.id}: {x} {a:.3g}, {y} {b:.3g}" for e, a, b in points)
    return draw_chart(title, words, draw, (5.6, 4.2))


def _losses(entries: Sequence[Entry]) -> Chart | None:
    """Training loss by step: each row's recorded curve, else a line from its first to its last loss."""
    curves = []
    for entry in entries:
        training = entry.provenance.training
        if training is None:
            continue
        curve: Sequence[tuple[Any, Any]] = training.curve
        ends = ((1, training.first_loss), (training.steps, training.last_loss))
        points = [(x, y) for x, y in curve or ends if x is not None and y is not None]
        if len(points) > 1:
            curves.append((entry, points))
    if not curves:
        return None

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for entry, points in curves[:MOST_LINES]:
            axes.plot(*zip(*points, strict=True), color=_colour(entries, entry), lw=1.8, label=_short(entry.id))
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss (each method's own)")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)

    words = "; ".join(f"{e.id}: from {points[0][1]:.3g} to {points[-1][1]:.3g}" for e, points in curves)
    return draw_chart("Training loss", words, draw, (6.4, 3.6))


def _colour(entries: Sequence[Entry], entry: Entry) -> str:
    """The row's colour, the same in every chart of the board."""
    return COLOURS[list(entries).index(entry) % len(COLOURS)]


def _short(text: str) -> str:
    """A row's name for a chart: printable and at most 36 characters. `$` would begin a formula."""
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text).replace("$", r"\$")
    # The middle is cut out: rows of a sweep begin alike and end differently.
    return plain if len(plain) <= 36 else f"{plain[:14]}…{plain[-21:]}"


def draw_chart(title: str, words: str, draw: Callable[[Any], None], size: tuple[float, float]) -> Chart:
    """Draw a chart in both colourings. `draw` fills a matplotlib Figure; `size` is in inches."""
    svgs = []
    for ink in ("#1b1e23", "#e8e6e1"):
        with _style(ink):
            from matplotlib.figure import Figure

            figure = Figure(figsize=size, layout="constrained")
            draw(figure)
            text = io.StringIO()
            # Without a date and with fixed ids, the same board gives the same bytes.
            figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
            svgs.append(text.getvalue())
    return Chart(title, words, svgs[0], svgs[1])


@contextmanager
def _style(ink: str) -> Iterator[None]:
    """matplotlib's settings for text and lines in the colour `ink`."""
    import matplotlib as mpl

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    options: Any = dict.fromkeys(inked, ink) | {
        "svg.hashsalt": "board",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": True,
    }
    with mpl.rc_context(options):
        yield
