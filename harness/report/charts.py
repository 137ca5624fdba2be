"""The page's charts, by matplotlib, as SVG in two colourings: for light and for dark."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from harness.board_rows import CATEGORIES, COLUMNS, Entry

COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0", "#ff8ab7")
"""Observable's ten (2023), told apart on light and on dark."""
MOST = 12
"""Rows that a chart of lines shows at the most: the best by its figure."""
INTERVALS = (
    "alpaca_eval.win_rate",
    "alpaca_eval.lc_win_rate",
    "mt_bench.score",
    "mt_bench.win_rate",
    "heldout.pair_accuracy",
)


class Chart(NamedTuple):
    """A chart: its title, what it shows in words (for those who don't see it), the two SVG texts, and whether it needs
    the page's whole width."""

    title: str
    words: str
    light: str
    dark: str
    wide: bool = False


def charts(entries: Sequence[Entry]) -> list[Chart]:
    """Those that the board has data for."""
    made = [_intervals(entries, metric) for metric in INTERVALS]
    made += [_radar(entries), _turns(entries), _losses(entries), _reward(entries)]
    return [chart for chart in made if chart is not None]


def _intervals(entries: Sequence[Entry], metric: str) -> Chart | None:
    rows = [(e, e.metrics[metric]) for e in entries if metric in e.metrics and e.metrics[metric].value is not None]
    if len(rows) < 2:
        return None
    rows = sorted(rows, key=lambda row: row[1].value or 0)[-40:]
    column = next((c for c in COLUMNS if c.metric == metric), None)
    title = f"{column.group} {column.title}" if column else metric
    unit = f" ({column.unit})" if column and column.unit else ""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for place, (entry, found) in enumerate(rows):
            colour = COLOURS[list(entries).index(entry) % len(COLOURS)]
            if found.ci95:
                axes.plot(found.ci95, [place, place], color=colour, lw=3, alpha=0.45, solid_capstyle="round")
            axes.plot([found.value], [place], "o", color=colour, ms=6)
        axes.set_yticks(range(len(rows)), [_short(entry.id) for entry, _ in rows])
        axes.set_xlabel(f"{title}{unit}, with 95 % interval")
        axes.grid(axis="x", alpha=0.25)
        axes.margins(y=0.08)

    words = "; ".join(f"{entry.id} {found.value:.3g}" for entry, found in reversed(rows))
    return drawn(title, words, draw, (6.4, 1.1 + 0.34 * len(rows)))


def _radar(entries: Sequence[Entry]) -> Chart | None:
    there = [c for c in CATEGORIES if any(_value(e, c.metric) is not None for e in entries)]
    rows = [e for e in entries if all(_value(e, c.metric) is not None for c in there)]
    if len(there) < 3 or not rows:
        return None
    rows = sorted(rows, key=lambda e: -(_value(e, "mt_bench.score") or 0))[:MOST]

    def draw(figure: Any) -> None:
        from math import pi

        axes = figure.add_subplot(projection="polar")
        angles = [2 * pi * i / len(there) for i in range(len(there))]
        for entry in rows:
            values = [_value(entry, c.metric) for c in there]
            colour = COLOURS[list(entries).index(entry) % len(COLOURS)]
            axes.plot([*angles, angles[0]], [*values, values[0]], color=colour, lw=1.8, label=_short(entry.id))
        axes.set_xticks(angles, [c.title for c in there])
        axes.set_ylim(0, 10)
        axes.set_yticks([2, 4, 6, 8, 10])
        axes.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=2, frameon=False)

    words = "; ".join(f"{e.id}: " + ", ".join(f"{c.title} {_value(e, c.metric):.2f}" for c in there) for e in rows)
    return drawn("MT-bench by category", words, draw, (5.6, 5.6 + 0.16 * len(rows)))


def _turns(entries: Sequence[Entry]) -> Chart | None:
    first, second = "mt_bench.turn_1", "mt_bench.turn_2"
    points = [(e, _value(e, first), _value(e, second)) for e in entries]
    points = [(e, x, y) for e, x, y in points if x is not None and y is not None]
    return scatter(entries, points, "MT-bench: first and second turn", "first turn", "second turn", diagonal=True)


def _reward(entries: Sequence[Entry]) -> Chart | None:
    points = []
    for entry in entries:
        reward = entry.section("data").get("reward")
        accuracy = reward.get("heldout_accuracy", {}).get("value") if isinstance(reward, dict) else None
        won = _value(entry, "alpaca_eval.win_rate")
        if entry.method != "base" and accuracy is not None and won is not None:
            points.append((entry, accuracy, won))
    if len({x for _, x, _ in points}) < 2:
        return None
    return scatter(entries, points, "Reward model and win rate", "accuracy on held-out pairs", "win rate, %")


def scatter(
    entries: Sequence[Entry],
    points: Sequence[tuple[Entry, Any, Any]],
    title: str,
    x: str,
    y: str,
    diagonal: bool = False,
) -> Chart | None:
    if len(points) < 2:
        return None

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for entry, across, up in points:
            axes.plot([across], [up], "o", color=COLOURS[list(entries).index(entry) % len(COLOURS)], ms=7)
            if len(points) > MOST:
                continue
            axes.annotate(_short(entry.id), (across, up), xytext=(6, 4), textcoords="offset points", fontsize=8)
        if diagonal:
            axes.axline((5, 5), slope=1, lw=1, ls=":", color="#888888")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.margins(0.15)
        axes.grid(alpha=0.25)

    words = "; ".join(f"{e.id}: {x} {a:.3g}, {y} {b:.3g}" for e, a, b in points)
    return drawn(title, words, draw, (5.6, 4.2))


def _losses(entries: Sequence[Entry]) -> Chart | None:
    """The curve where the row has one, else from the first steps' loss to the last."""
    curves = []
    for entry in entries:
        training = entry.section("training")
        curve = training.get("curve") or [
            [step, training.get(name)] for step, name in ((1, "first_loss"), (training.get("steps"), "last_loss"))
        ]
        points = [(x, y) for x, y in curve if isinstance(x, int | float) and isinstance(y, int | float)]
        if len(points) > 1:
            curves.append((entry, points))
    if not curves:
        return None

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for entry, points in curves[:MOST]:
            colour = COLOURS[list(entries).index(entry) % len(COLOURS)]
            axes.plot(*zip(*points, strict=True), color=colour, lw=1.8, label=_short(entry.id))
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss (each method's own)")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)

    words = "; ".join(f"{e.id}: from {points[0][1]:.3g} to {points[-1][1]:.3g}" for e, points in curves)
    return drawn("Training loss", words, draw, (6.4, 3.6))


def _value(entry: Entry, metric: str) -> float | None:
    found = entry.metrics.get(metric)
    return None if found is None else found.value


def _short(text: str) -> str:
    """A row's name in a chart: of characters that fonts have, and not endless. `$` would begin a formula."""
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text).replace("$", r"\$")
    # Rows of a sweep begin alike and end differently.
    return plain if len(plain) <= 36 else f"{plain[:14]}…{plain[-21:]}"


def drawn(title: str, words: str, draw: Callable[[Any], None], size: tuple[float, float]) -> Chart:
    made = []
    for ink in ("#1b1e23", "#e8e6e1"):
        with _style(ink):
            from matplotlib.figure import Figure

            figure = Figure(figsize=size, layout="constrained")
            draw(figure)
            text = io.StringIO()
            # No date and fixed ids: the same board gives the same bytes.
            figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
            made.append(text.getvalue())
    return Chart(title, words, made[0], made[1])


@contextmanager
def _style(ink: str) -> Iterator[None]:
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
