"""The page's first screen: the board's question and answer, its differences, and its rows' primary figure."""

from collections.abc import Sequence
from typing import NamedTuple

from harness.boards.catalog import Figures
from harness.boards.entry import Entry, comparable
from harness.boards.training_seeds import SeedGroup, seed_groups, seeds_interval
from harness.claims.answer import Answer, answer
from harness.claims.effects import Effect
from harness.figures import Figure
from harness.report.page.dots import Dots, Line, Panel, Point, dots, even, figure_panel, metric_point, metric_text
from harness.report.page.looks import Looks
from harness.report.page.words import difference_text, figure_text, interval_text

MOST_LINES = 24
"""Lines of a chart on the first screen; of more differences the surest are shown, of more rows the best."""


class First(NamedTuple):
    """What stands first. `figure`: the one that the board is about; None for a board without figures. `compared`: the
    ids of the two rows whose answers are shown first, if any are compared."""

    answer: Answer | None
    figure: Figure | None
    charts: tuple[Dots, ...]
    compared: tuple[str, str] | None


def first_screen(entries: Sequence[Entry], looks: Looks) -> First:
    """The first screen of a board."""
    found = answer(entries)
    figure = found.primary.figure if found else _main_figure(entries)
    charts = []
    if found:
        charts.append(_differences(found.primary.effects, found.primary.figure, looks))
    if figure is not None and (levels := _levels(entries, figure, looks)):
        charts.append(levels)
    return First(found, figure, tuple(charts), _rows_of(entries, found.statements[0].effect) if found else None)


def _main_figure(entries: Sequence[Entry]) -> Figure | None:
    """The figure that a board without comparisons is about: the first headline that a row has."""
    figures = Figures(entries)
    candidates = [*figures.headlines, *figures.compared, *figures.board]
    return next((f for f in candidates if any(entry.value(f.metric) is not None for entry in entries)), None)


def _differences(effects: Sequence[Effect], figure: Figure, looks: Looks) -> Dots:
    kept = sorted(range(len(effects)), key=lambda i: (effects[i].adjusted_p, i))[:MOST_LINES]
    shown = [effect for i, effect in enumerate(effects) if i in set(kept)]
    against = list(dict.fromkeys(effect.against for effect in shown))
    lines = [difference_line(effect, looks, named=len(against) > 1) for effect in shown]
    notes = [
        "Filled: significant.",
        *(["Small dots: one training seed each."] if any(e.by_seed for e in shown) else []),
    ]
    if len(shown) < len(effects):
        notes.append(f"The {len(shown)} surest of {len(effects)}.")
    whom = f" from {against[0]}" if len(against) == 1 else ""
    unit = figure.difference_unit or (f"{figure.unit} points" if figure.unit else "")
    title = f"Difference{whom}{f', {unit}' if unit else ''}, 95 % CI"
    return dots(title, [Panel("", 0.0, signs=True)], lines, " ".join(notes))


def difference_line(effect: Effect, looks: Looks, named: bool = False) -> Line:
    """An effect as a line of a chart. `named`: what it is compared with stands in its name."""
    name = f"{effect.value} \N{MINUS SIGN} {effect.against}" if named else effect.value
    point, text = difference_point(effect)
    return Line(name, looks[effect.value], (point,), text)


def difference_point(effect: Effect) -> tuple[Point, str]:
    """An effect as a point of a chart, and as text: `+1.8 (−0.4 to +4.0)`."""
    decimals = effect.figure.difference_decimals
    text = difference_text(effect.difference, decimals)
    text += " (too few prompts)" if effect.ci95 is None else f" ({interval_text(effect.ci95, decimals)})"
    parts = tuple((x, f"seed {i}: {difference_text(x, decimals)}") for i, x in enumerate(effect.by_seed, 1))
    title = f"{effect.value} against {effect.against}: {text}, p {effect.adjusted_p:.2g}, {effect.prompts:,} prompts"
    return Point(effect.difference, effect.ci95, title, effect.is_significant, parts), text


def _levels(entries: Sequence[Entry], figure: Figure, looks: Looks) -> Dots | None:
    """The rows' figure, in the board's order: those of the first table, or of the one with the primary comparisons. Of
    too many rows, those that differ in their training seed only share a line."""
    tables = comparable(entries)
    rows = next((rows for rows in tables if len(rows) > 1), tables[0] if tables else [])
    rows = [entry for entry in rows if entry.value(figure.metric) is not None]
    if not rows:
        return None
    notes = ["The line at 50: as many wins as the reference."] if even(figure) is not None else []
    lines = {entry.id: _row_line(entry, figure, looks) for entry in rows}
    if len(rows) > MOST_LINES and (groups := seed_groups(rows)):
        for group in groups:
            lines[group.rows[0]] = _group_line(
                group, [entry for entry in rows if entry.id in group.rows], figure, looks
            )
            for row in group.rows[1:]:
                del lines[row]
        notes.append("Means over training seeds, with t intervals over seeds; small dots: one seed each.")
    if len(lines) > MOST_LINES:
        sign = 1 if figure.higher_is_better is False else -1
        best = sorted(lines, key=lambda row: sign * _first_value(lines[row]))[:MOST_LINES]
        notes.append(f"The {MOST_LINES} best of {len(lines)}.")
        lines = {row: line for row, line in lines.items() if row in set(best)}
    return dots(f"{figure.head}, 95 % CI", [figure_panel(figure, "")], list(lines.values()), " ".join(notes))


def _first_value(line: Line) -> float:
    point = line.points[0]
    return 0.0 if point is None else point.value


def _row_line(entry: Entry, figure: Figure, looks: Looks) -> Line:
    metric = entry.metrics[figure.metric]
    return Line(entry.id, looks[entry.id], (metric_point(entry.id, metric, figure),), metric_text(metric, figure))


def _group_line(group: SeedGroup, rows: Sequence[Entry], figure: Figure, looks: Looks) -> Line:
    """The mean over a method's training seeds."""
    spread = group.metrics[figure.metric]
    mean, interval = spread.mean or 0.0, seeds_interval(spread)
    if interval is not None and figure.limits is not None:
        interval = max(interval[0], figure.limits[0]), min(interval[1], figure.limits[1])
    text = figure_text(mean, figure.decimals)
    text += f" ({interval_text(interval, figure.decimals)})" if interval else ""
    values = [(entry.id, value) for entry in rows if (value := entry.value(figure.metric)) is not None]
    parts = tuple((value, f"{row}: {figure_text(value, figure.decimals)}") for row, value in values)
    point = Point(mean, interval, f"{group.label}: {text}, {spread.n} seeds", parts=parts)
    return Line(group.label, looks[rows[0].id], (point,), text)


def _rows_of(entries: Sequence[Entry], effect: Effect) -> tuple[str, str] | None:
    """The first rows of the two that are compared."""
    found = []
    for name in (effect.value, effect.against):
        rows = [e.id for e in entries if e.id == name] or [e.id for e in entries if e.provenance.method_id == name]
        found += rows[:1]
    return (found[0], found[1]) if len(found) == 2 else None
