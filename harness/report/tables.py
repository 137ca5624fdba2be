"""The page's tables and notes, as HTML. Every text from a model, a recipe or a file is escaped."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from harness.boards.board import Board
from harness.boards.catalog import Figures, present
from harness.boards.entry import Entry, comparable
from harness.boards.facts import doubts, judge_name, loss_label, training_problems
from harness.boards.format import UNPAIRED, bounds, missing, number, visible
from harness.figures import Figure
from harness.report.comparisons import HOW_COMPARED, by_pair, compared_ids, detectable_difference
from harness.report.notes import (
    answering_notes,
    benchmark_notes,
    budget_notes,
    data_stages,
    margin_notes,
    reconstruction_notes,
    stage_notes,
    stage_reports,
    uncalibrated_note,
    unchecked_notes,
)
from harness.report.sweep import HOW_VARIED, sweep_sections
from harness.stats.paired import Comparison
from harness.types import Metric


def _text(value: Any) -> str:
    """Escaped text, with control characters made visible."""
    return escape(visible(str(value)))


def _scrolling(label: str, table: str) -> str:
    """A table in a region that scrolls sideways and can be reached by keyboard."""
    return f'<div class=scroll tabindex=0 role=region aria-label="{_text(label)}">{table}</div>'


def results_html(board: Board) -> str:
    """A table for each group of comparable rows, with its judge, and the doubts about their figures."""
    groups = comparable(board.entries)
    parts = []
    if note := uncalibrated_note(board.entries):
        parts.append(f"<p class=warning><strong>Uncalibrated judge.</strong> {_text(note)}</p>")
    parts.append(
        "<p class=tools><label>Filter rows <input class=filter type=search autocomplete=off "
        'placeholder="part of a name"></label> '
        "<span class=note>Click a heading, or press Enter on it, to sort.</span></p>"
    )
    for table_number, rows in enumerate(groups, 1):
        if len(groups) > 1:
            parts.append(f"<h3>Table {table_number}</h3>")
        parts.append(_judged_by(rows))
        figures = Figures(rows)
        parts.append(_table(rows, present(figures.board, rows), f"Results, table {table_number}"))
        more = present((*figures.categories, *figures.details), rows)
        if more:
            parts.append(
                f"<details><summary>Further figures</summary>{_table(rows, more, 'Further figures')}</details>"
            )
    warnings = [
        f"<li><strong>{_text(entry.id)}</strong>: {_text(text)}"
        for entry in board.entries
        for text in (*doubts(entry), *training_problems(entry))
    ]
    if warnings:
        parts.append(f"<h3>What makes figures doubtful</h3><ul class=doubts>{''.join(warnings)}</ul>")
    notes = [
        UNPAIRED,
        *benchmark_notes(board.entries),
        *unchecked_notes(board.entries),
        *answering_notes(board.entries),
        *budget_notes(board.entries),
        *margin_notes(board.entries),
        *reconstruction_notes(board.entries),
    ]
    parts.append(f"<ul class=notes>{''.join(f'<li>{_text(n)}' for n in notes)}</ul>")
    return "".join(parts)


def _judged_by(rows: Sequence[Entry]) -> str:
    """Judge and benchmarks of a group of rows, which share them."""
    first = rows[0]
    facts = [("Judge", judge_name(first) or "none")]
    if recorded := (first.provenance.judge or {}).get("recorded_by"):
        facts.append(("Recorded by", recorded))
    if calibration := first.provenance.judge_calibration:
        facts.append(("Calibration", str(calibration)))
    for name, identity in sorted(first.provenance.benchmarks.items()):
        if isinstance(identity, Mapping):
            fields = {k: v for k, v in identity.items() if isinstance(v, str | int) and not _is_hash(v) and k != "name"}
            facts.append((name, ", ".join(f"{k} {v}" for k, v in sorted(fields.items()))))
    return _facts(facts)


def _facts(facts: Sequence[tuple[str, Any]]) -> str:
    """(term, description) pairs as a list of definitions."""
    return "<dl class=facts>" + "".join(f"<dt>{_text(term)}<dd>{_text(text)}" for term, text in facts) + "</dl>"


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) >= 40 and " " not in value


def _table(rows: Sequence[Entry], columns: Sequence[Figure], label: str) -> str:
    heads = ["row", "loss", *(c.head for c in columns)]
    head = "".join(
        f"<th scope=col aria-sort=none><button type=button class=sort>{_text(title)}</button></th>" for title in heads
    )
    body = "".join(_row(entry, columns) for entry in rows)
    return _scrolling(label, f"<table class=sortable><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def _row(entry: Entry, columns: Sequence[Figure]) -> str:
    flags = doubts(entry)
    mark = f' <span class=flag title="{_text("; ".join(flags))}">{len(flags)} ⚑</span>' if flags else ""
    cells = "".join(_cell(entry.metrics.get(c.metric), c.decimals) for c in columns)
    return (
        f'<tr data-row="{_text(entry.id)}"><th scope=row>{_text(entry.id)}{mark}</th>'
        f"<td>{_text(loss_label(entry))}</td>{cells}</tr>"
    )


def _cell(metric: Metric | None, decimals: int) -> str:
    if metric is None or metric.value is None:
        return f"<td class=none>{_text('–' if metric is None else missing(metric))}</td>"
    interval = ""
    if metric.ci95:
        low, high = bounds(metric.ci95, decimals)
        interval = f"<small>{low} to {high}</small>"
    unscored = f", {metric.n_invalid} not scored" if metric.n_invalid else ""
    return (
        f'<td data-value="{metric.value!r}"><b>{number(metric.value, decimals)}</b>{interval}'
        f"<small class=n>n {metric.n:,}{unscored}</small></td>"
    )


def varied_html(board: Board) -> str:
    """The sections of a sweep: the effect of each axis."""
    parts = []
    for section in sweep_sections(board.entries):
        notes = "".join(f"<li>{_text(note)}" for note in section.notes)
        parts.append(f"<h3>{_text(section.title)}</h3><ul class=notes>{notes}</ul>")
        for table in section.tables:
            head = "".join(
                f"<th scope=col{' class=word' * (i < table.left)}>{_text(title)}</th>"
                for i, title in enumerate(table.heads)
            )
            body = "".join(
                f"<tr><th scope=row>{_text(row[0])}</th>"
                + "".join(f"<td{' class=word' * (i < table.left)}>{_text(c)}</td>" for i, c in enumerate(row[1:], 1))
                + "</tr>"
                for row in table.rows
            )
            html = f"<caption>{_text(table.title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
            parts.append(_scrolling(table.title, f"<table>{html}</table>"))
    return f"<p class=note>{_text(HOW_VARIED)}</p>{''.join(parts)}" if parts else ""


def compared_html(board: Board) -> str:
    """A matrix per metric: row minus column."""
    parts = [f"<p class=note>{_text(HOW_COMPARED.replace('**', ''))}</p>"] if board.comparisons else []
    figures = Figures(board.entries)
    order = [*(figure.metric for figure in figures.compared), *board.comparisons]
    for metric in sorted(board.comparisons, key=order.index):
        comparisons, figure = board.comparisons[metric], figures[metric]
        ids, pairs = compared_ids(comparisons), by_pair(comparisons)
        head = "".join(f"<th scope=col>{_text(i)}</th>" for i in ids)
        body = ""
        for a in ids:
            cells = "".join(_pair(pairs.get((a, b)), figure, a == b) for b in ids)
            body += f"<tr><th scope=row>{_text(a)}</th>{cells}</tr>"
        title, detectable = figure.difference_head, detectable_difference(comparisons, figure)
        matrix = f"<table class=matrix><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"
        parts.append(
            f"<h3>{_text(title)}</h3>{_scrolling(title, matrix)}"
            f"<p class=note>{sum(c.is_real for c in comparisons)} of {len(comparisons)} pairs differ"
            f"{_text(';' + detectable if detectable else '')}.</p>"
        )
    return "".join(parts)


def _pair(comparison: Comparison | None, figure: Figure, same: bool) -> str:
    """A cell of a matrix, coloured by which row is better; `same`: it is on the diagonal."""
    if comparison is None:
        return f"<td class=none>{'' if same else '–'}</td>"
    difference, decimals = comparison.difference, figure.difference_decimals
    low, high = bounds(comparison.ci95, decimals)
    better = difference < 0 if figure.higher_is_better is False else difference > 0
    kind = ("up" if better else "down") if comparison.is_real else "unsure"
    sign = "+" if difference > 0 else ""
    return f"<td class={kind}><b>{sign}{number(difference, decimals)}</b><small>{low} to {high}</small></td>"


def data_html(board: Board) -> str:
    """The reports of the data stages, and the amounts of training and judging."""
    items = []
    for stage, label in data_stages(board.entries).items():
        for report, _ in stage_reports(board.entries, stage):
            texts = [_numbers(report), *stage_notes(report)]
            items.append((label, "; ".join(text for text in texts if text)))
    for entry in board.entries:
        about = entry.provenance
        items += [(f"Judging {entry.id}, {name}", _numbers(cost.plain())) for name, cost in about.judging.items()]
        items.append((f"Training {entry.id}", _numbers(about.training.plain() if about.training else {})))
    facts = [(label, text) for label, text in items if text]
    return _facts(facts) if facts else ""


def _numbers(report: Mapping[str, Any]) -> str:
    """A report's numbers with their names."""
    numbers = {k: v for k, v in sorted(report.items()) if isinstance(v, int | float) and not isinstance(v, bool)}
    return ", ".join(
        f"{k.replace('_', ' ')} {f'{v:,}' if isinstance(v, int) else f'{v:,.4g}'}" for k, v in numbers.items()
    )


def provenance_html(board: Board) -> str:
    """Each row's provenance as JSON, collapsed."""
    rows = [(_text(entry.id), _json(entry.provenance.plain())) for entry in board.entries]
    return "".join(f"<details><summary>{row}</summary><pre tabindex=0>{text}</pre></details>" for row, text in rows)


def _json(value: Any) -> str:
    return escape(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))
