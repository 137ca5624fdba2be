"""The page's tables and notes, as the templates draw them. All texts are plain: the templates escape them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from harness.boards.board import Board
from harness.boards.catalog import Figures, present
from harness.boards.entry import Entry, comparable
from harness.boards.facts import (
    MOST_NAMED,
    doubts,
    doubts_of_rows,
    judge_name,
    loss_label,
    one_a_training,
    training_problems,
)
from harness.boards.format import UNPAIRED, common_counts, counts, missing
from harness.boards.provenance import JudgeCalibration
from harness.boards.training_seeds import spread_figure, varied_seed_groups
from harness.figures import Figure
from harness.report.judges import equivalent_notes
from harness.report.notes import (
    answering_notes,
    benchmark_notes,
    budget_notes,
    data_stages,
    figure_notes,
    heldout_notes,
    margin_notes,
    reconstruction_notes,
    stage_notes,
    stage_reports,
    unchecked_notes,
)
from harness.report.page.looks import Look, Looks
from harness.report.page.words import figure_text, interval_text, minus
from harness.types import Metric

Facts = Sequence[tuple[str, str]]
"""(term, description) pairs."""


class Cell(NamedTuple):
    """A figure in a table. `sort`: what the column is sorted by, empty where there is no value. `counts`: n, and how
    many are not scored."""

    text: str
    interval: str = ""
    counts: str = ""
    sort: str = ""


class Row(NamedTuple):
    """A row of a table. `flags`: why its figures are doubtful."""

    id: str
    look: Look
    flags: tuple[str, ...]
    loss: str
    cells: tuple[Cell, ...]


class FigureTable(NamedTuple):
    """Rows by figures. `heads`: (a figure's head, how many prompts all its rows have in common; empty where these
    differ). `primary`: the head of the primary figure."""

    label: str
    heads: tuple[tuple[str, str], ...]
    primary: str
    rows: tuple[Row, ...]


class Group(NamedTuple):
    """Comparable rows: what they were measured with, their main table, the further figures, and the methods' figures
    over training seeds as a head and rows of texts."""

    title: str
    facts: Facts
    main: FigureTable
    more: FigureTable | None
    seed_heads: tuple[str, ...]
    seed_rows: tuple[tuple[str, ...], ...]


def results(board: Board, primary: Figure | None, looks: Looks) -> list[Group]:
    """A group of tables for each group of comparable rows; the primary figure stands in the first column."""
    groups = comparable(board.entries)
    found = []
    for table_number, rows in enumerate(groups, 1):
        figures = Figures(rows)
        columns = present(figures.board, rows)
        if primary is not None:
            columns.sort(key=lambda figure: figure.metric != primary.metric)
        more = present((*figures.categories, *figures.details), rows)
        over_seeds = varied_seed_groups(rows)
        found.append(
            Group(
                f"Table {table_number}" if len(groups) > 1 else "",
                _judged_by(rows),
                _table(rows, columns, f"Results, table {table_number}", primary, looks),
                _table(rows, more, "Further figures", None, looks) if more else None,
                ("method", "seeds", *(c.head for c in columns)),
                tuple(
                    (
                        group.label,
                        group.seeds_text,
                        *(minus(spread_figure(s, c)) if (s := group.metrics.get(c.metric)) else "–" for c in columns),
                    )
                    for group in over_seeds
                ),
            )
        )
    return found


def _table(
    rows: Sequence[Entry], columns: Sequence[Figure], label: str, primary: Figure | None, looks: Looks
) -> FigureTable:
    common = [common_counts(c, rows) or "" for c in columns]
    drawn = tuple(
        Row(
            entry.id,
            looks[entry.id],
            tuple(doubts(entry)),
            loss_label(entry),
            tuple(_cell(entry.metrics.get(c.metric), c.decimals, n) for c, n in zip(columns, common, strict=True)),
        )
        for entry in rows
    )
    heads = tuple((c.head, n) for c, n in zip(columns, common, strict=True))
    return FigureTable(label, heads, primary.head if primary else "", drawn)


def _cell(metric: Metric | None, decimals: int, common: str) -> Cell:
    """A figure; its counts where they don't stand in the head."""
    if metric is None or metric.value is None:
        return Cell("–" if metric is None else missing(metric))
    interval = interval_text(metric.ci95, decimals) if metric.ci95 else ""
    return Cell(figure_text(metric.value, decimals), interval, "" if common else counts(metric), repr(metric.value))


def _judged_by(rows: Sequence[Entry]) -> Facts:
    """Judge and benchmarks of a group of rows, which share them."""
    about = rows[0].provenance
    facts = [("Judge", judge_name(rows[0]) or "none")]
    if recorded := (about.judge or {}).get("recorded_by"):
        facts.append(("Recorded by", str(recorded)))
    if calibration := about.judge_calibration:
        text = calibration.text if isinstance(calibration, JudgeCalibration) else calibration
        facts.append(("Calibration", text))
    for name, identity in sorted(about.benchmarks.items()):
        if isinstance(identity, Mapping):
            fields = {k: v for k, v in identity.items() if isinstance(v, str | int) and not _is_hash(v) and k != "name"}
            facts.append((name, ", ".join(f"{k} {v}" for k, v in sorted(fields.items()))))
    return facts


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) >= 40 and " " not in value


def warnings(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """(rows, why their figures are doubtful or what went wrong in their training), each reason once."""
    rows_by_problem: dict[str, list[str]] = {}
    for entry in entries:
        for problem in training_problems(entry):
            rows_by_problem.setdefault(problem, []).append(entry.id)
    problems = [
        (", ".join(ids) if len(ids) <= MOST_NAMED else f"{len(ids):,} rows", problem)
        for problem, ids in rows_by_problem.items()
    ]
    return [*doubts_of_rows(entries), *problems]


def reading_notes(entries: Sequence[Entry]) -> list[str]:
    """The notes needed to read the tables."""
    return [
        UNPAIRED,
        *equivalent_notes(entries),
        *figure_notes(entries),
        *benchmark_notes(entries),
        *unchecked_notes(entries),
        *answering_notes(entries),
        *budget_notes(entries),
        *heldout_notes(entries),
        *margin_notes(entries),
        *reconstruction_notes(entries),
    ]


def data_facts(board: Board) -> Facts:
    """The reports of the data stages, and the amounts of training and judging."""
    items = []
    for stage, label in data_stages(board.entries).items():
        for report, _ in stage_reports(board.entries, stage):
            texts = [_numbers(report), *stage_notes(report)]
            items.append((label, minus("; ".join(text for text in texts if text))))
    for entry in board.entries:
        about = entry.provenance
        items += [(f"Judging {entry.id}, {name}", _numbers(cost.plain())) for name, cost in about.judging.items()]
    trained = ((entry.id, entry.provenance.training) for entry in one_a_training(board.entries))
    items += [(f"Training {row}", _numbers(training.plain())) for row, training in trained if training]
    return [(label, text) for label, text in items if text]


def _numbers(report: Mapping[str, Any]) -> str:
    """A report's numbers with their names."""
    numbers = {k: v for k, v in sorted(report.items()) if isinstance(v, int | float) and not isinstance(v, bool)}
    return ", ".join(
        f"{k.replace('_', ' ')} {minus(f'{v:,}' if isinstance(v, int) else f'{v:,.4g}')}" for k, v in numbers.items()
    )


def provenance(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """(row, its provenance as JSON)."""
    return [
        (entry.id, json.dumps(entry.provenance.plain(), indent=1, sort_keys=True, ensure_ascii=False))
        for entry in entries
    ]
