"""Learning curves as a section of tables: what each training had come to at its checkpoints."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.boards.catalog import Figures, present
from harness.boards.entry import Entry
from harness.boards.format import number, with_interval
from harness.claims.curves import LearningCurve, Stop, learning_curves
from harness.figures import Figure
from harness.report.markup import escape_markdown, table

HOW_DRAWN = "Each training at its checkpoints, with 95 % CIs over prompts. "
THE_LAST = (
    "A training stands in the tables above with its last checkpoint only, and of several rounds with the last: the "
    "best of several was chosen by the very prompts that it would be praised for."
)
THE_CHOSEN = "The tables above have the checkpoint that was chosen of each method, on prompts that no figure is of."


class CurveTable(NamedTuple):
    """A table of texts: the first column holds words, the others figures."""

    heads: list[str]
    rows: list[list[str]]


def curve_table(entries: Iterable[Entry]) -> CurveTable | None:
    """All curves of a board, one below the other; None without any."""
    curves = learning_curves(entries)
    if not curves:
        return None
    rows = [stop.entry for curve in curves for stop in curve.stops]
    columns = curve_figures(rows)
    rounds = any(row.provenance.round for row in rows)
    round_head = ["round"] if rounds else []
    heads = ["training", *round_head, "steps", "tokens through the policy", *(column.head for column in columns)]
    return CurveTable(heads, [_cells(curve, stop, columns, rounds) for curve in curves for stop in curve.stops])


def curve_figures(rows: Sequence[Entry]) -> list[Figure]:
    """The figures that curves are drawn of: those of the board's main table, and what training may cost."""
    figures = Figures(rows)
    main = present(figures.board, rows)
    return [*main, *(f for f in present(figures.details, rows) if f.tax is not None)]


def _cells(curve: LearningCurve, stop: Stop, columns: Sequence[Figure], rounds: bool) -> list[str]:
    about = stop.entry.provenance.round
    number_of_round = [str(about.number) if about else "–"] if rounds else []
    tokens = "–" if stop.tokens is None else f"{stop.tokens:,}"
    metrics = [stop.metric(column.metric) for column in columns]
    figures = ["–" if m is None else with_interval(m, c.decimals) for m, c in zip(metrics, columns, strict=True)]
    return [curve.last.id, *number_of_round, f"{stop.steps:,}", tokens, *figures]


def how_drawn(entries: Iterable[Entry]) -> str:
    """What the curves show, and with which of their checkpoints trainings stand in the tables."""
    chosen = any(row.provenance.selection and row.provenance.checkpoint for row in entries)
    return HOW_DRAWN + (THE_CHOSEN if chosen else THE_LAST)


def curves_markdown(entries: Sequence[Entry]) -> list[str]:
    """The section as Markdown; empty without curves."""
    found = curve_table(entries)
    if found is None:
        return []
    rows = [[escape_markdown(row[0]), *row[1:]] for row in found.rows]
    return [
        "## Learning curves",
        how_drawn(entries),
        table([escape_markdown(head) for head in found.heads], rows, left=1),
    ]


def after(steps: int) -> str:
    """`before training`, `after 1 step`, `after 2,000 steps`."""
    if not steps:
        return "before training"
    return "after 1 step" if steps == 1 else f"after {steps:,} steps"


def curve_lines(entries: Sequence[Entry]) -> list[str]:
    """A line for each training, of the first figure of the board: `dpo, AlpacaEval win rate, %: 50.0 before training,
    52.1 after 5 steps, 55.3 after 10`."""
    curves = learning_curves(entries)
    columns = curve_figures([stop.entry for curve in curves for stop in curve.stops]) if curves else []
    lines = []
    for curve in curves if columns else []:
        values = [(stop.steps, stop.entry.value(columns[0].metric)) for stop in curve.stops]
        known = [(steps, number(value, columns[0].decimals)) for steps, value in values if value is not None]
        texts = [f"{value} {after(steps)}" for steps, value in known]
        if texts:
            lines.append(f"{curve.last.id}, {columns[0].head}: {', '.join(texts)}")
    return lines
