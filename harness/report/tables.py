"""The page's tables and notes, as HTML. Everything that is not ours is escaped."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from harness.board_data import agreement_notes, data_stages, ranking_notes
from harness.board_notes import (
    admission_notes,
    budget_notes,
    leak_notes,
    logits_notes,
    reconstruction_notes,
    uncalibrated_note,
)
from harness.board_pairs import HOW, comparison_decimals, comparison_title, seen_difference
from harness.board_rows import (
    CATEGORIES,
    COLUMNS,
    UNPAIRED,
    Board,
    Column,
    Entry,
    comparable,
    doubts,
    further_columns,
    judge_name,
    missing,
    number,
    present,
    troubles,
    visible,
)
from harness.board_sweep import HOW as HOW_VARIED
from harness.board_sweep import sweep_sections
from harness.outcomes import COMPARED
from harness.types import Metric


def _text(value: Any) -> str:
    return escape(visible(str(value)))


def tables(board: Board) -> str:
    """A table for each group of rows that may be compared, with its judge, and what makes figures doubtful."""
    groups = comparable(board.entries)
    parts = []
    if note := uncalibrated_note(board.entries):
        parts.append(f"<p class=warning><strong>Uncalibrated judge.</strong> {_text(note)}</p>")
    parts.append(
        "<p class=tools><label>Filter rows <input class=filter type=search autocomplete=off "
        'placeholder="part of a name"></label> '
        "<span class=note>Click a heading, or press Enter on it, to sort.</span></p>"
    )
    for place, rows in enumerate(groups, 1):
        if len(groups) > 1:
            parts.append(f"<h3>Table {place}</h3>")
        parts.append(_judged_by(rows))
        parts.append(_table(rows, present(COLUMNS, rows), f"Results, table {place}"))
        more = present((*CATEGORIES, *further_columns(rows)), rows)
        if more:
            parts.append(
                f"<details><summary>Further figures</summary>{_table(rows, more, 'Further figures')}</details>"
            )
    said = [
        f"<li><strong>{_text(e.id)}</strong>: {_text(d)}" for e in board.entries for d in (*doubts(e), *troubles(e))
    ]
    if said:
        parts.append(f"<h3>What makes figures doubtful</h3><ul class=doubts>{''.join(said)}</ul>")
    notes = [UNPAIRED, *logits_notes(board.entries), *budget_notes(board.entries), *reconstruction_notes(board.entries)]
    parts.append(f"<ul class=notes>{''.join(f'<li>{_text(n)}' for n in notes)}</ul>")
    return "".join(parts)


def _judged_by(rows: Sequence[Entry]) -> str:
    first = rows[0]
    facts = [("Judge", judge_name(first) or "none")]
    if recorded := first.section("judge").get("recorded_by"):
        facts.append(("Recorded by", recorded))
    if calibration := first.provenance.get("judge_calibration"):
        facts.append(("Calibration", calibration))
    for name, identity in sorted(first.section("benchmarks").items()):
        if isinstance(identity, Mapping):
            shown = {k: v for k, v in identity.items() if isinstance(v, str | int) and not _is_hash(v) and k != "name"}
            facts.append((name, ", ".join(f"{k} {v}" for k, v in sorted(shown.items()))))
    return "<dl class=facts>" + "".join(f"<dt>{_text(k)}<dd>{_text(v)}" for k, v in facts) + "</dl>"


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) >= 40 and " " not in value


def _table(rows: Sequence[Entry], columns: Sequence[Column], label: str) -> str:
    heads = ["row", "loss", *(_head(c) for c in columns)]
    head = "".join(
        f"<th scope=col aria-sort=none><button type=button class=sort>{_text(title)}</button></th>" for title in heads
    )
    body = "".join(_row(entry, columns) for entry in rows)
    return (
        f'<div class=scroll tabindex=0 role=region aria-label="{_text(label)}"><table class=sortable>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _head(column: Column) -> str:
    return f"{column.group} {column.title}{', ' + column.unit if column.unit else ''}".strip()


def _row(entry: Entry, columns: Sequence[Column]) -> str:
    flags = doubts(entry)
    mark = f' <span class=flag title="{_text("; ".join(flags))}">{len(flags)} ⚑</span>' if flags else ""
    loss = "–" if entry.method == "base" else entry.method
    cells = "".join(_cell(entry.metrics.get(c.metric), c.decimals) for c in columns)
    return (
        f'<tr data-row="{_text(entry.id)}"><th scope=row>{_text(entry.id)}{mark}</th><td>{_text(loss)}</td>{cells}</tr>'
    )


def _cell(metric: Metric | None, decimals: int) -> str:
    if metric is None or metric.value is None:
        return f"<td class=none>{_text('–' if metric is None else missing(metric))}</td>"
    interval = ""
    if metric.ci95:
        low, high = (number(x, decimals) for x in metric.ci95)
        interval = f"<small>{low} to {high}</small>"
    lost = f", {metric.n_invalid} not scored" if metric.n_invalid else ""
    return (
        f'<td data-value="{metric.value!r}"><b>{number(metric.value, decimals)}</b>{interval}'
        f"<small class=n>n {metric.n:,}{lost}</small></td>"
    )


def varied(board: Board) -> str:
    """A sweep's sections: what each thing that was varied has changed."""
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
            parts.append(
                f'<div class=scroll tabindex=0 role=region aria-label="{_text(table.title)}"><table>'
                f"<caption>{_text(table.title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
            )
    return f"<p class=note>{_text(HOW_VARIED)}</p>{''.join(parts)}" if parts else ""


def compared(board: Board) -> str:
    """A matrix a metric: row less column."""
    parts = [f"<p class=note>{_text(HOW.replace('**', ''))}</p>"] if board.comparisons else []
    for metric in sorted(board.comparisons, key=COMPARED.index):
        made = board.comparisons[metric]
        ids = list(dict.fromkeys(name for c in made for name in (c.first, c.second)))
        decimals = comparison_decimals(metric)
        cells: dict[tuple[str, str], tuple[float, float, float, bool]] = {}
        for c in made:
            cells[c.first, c.second] = (c.difference, *c.ci95, c.is_real)
            cells[c.second, c.first] = (-c.difference, -c.ci95[1], -c.ci95[0], c.is_real)
        head = "".join(f"<th scope=col>{_text(i)}</th>" for i in ids)
        body = "".join(
            f"<tr><th scope=row>{_text(a)}</th>{''.join(_pair(cells.get((a, b)), decimals, a == b) for b in ids)}</tr>"
            for a in ids
        )
        title = comparison_title(metric, board.entries)
        parts.append(
            f'<h3>{_text(title)}</h3><div class=scroll tabindex=0 role=region aria-label="{_text(title)}">'
            f"<table class=matrix><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
            f"<p class=note>{sum(c.is_real for c in made)} of {len(made)} pairs differ"
            f"{_text(';' + said if (said := seen_difference(made, metric)) else '')}.</p>"
        )
    return "".join(parts)


def _pair(found: tuple[float, float, float, bool] | None, decimals: int, same: bool) -> str:
    if found is None:
        return f"<td class=none>{'' if same else '–'}</td>"
    difference, low, high, real = found
    kind = ("up" if difference > 0 else "down") if real else "unsure"
    sign = "+" if difference > 0 else ""
    return (
        f"<td class={kind}><b>{sign}{number(difference, decimals)}</b>"
        f"<small>{number(low, decimals)} to {number(high, decimals)}</small></td>"
    )


def data_notes(board: Board) -> str:
    """What the data stages report, and what training and judging came to."""
    items = []
    for stage, label in data_stages(board.entries).items():
        reports = {json.dumps(r, sort_keys=True): r for e in board.entries if (r := e.section("data").get(stage))}
        for report in reports.values():
            notes = (*leak_notes(report), *admission_notes(report), *ranking_notes(report), *agreement_notes(report))
            items.append((label, "; ".join([part for part in (_counts(report), *notes) if part])))
    for entry in board.entries:
        items += [(f"Judging {entry.id}, {name}", _counts(cost)) for name, cost in entry.section("judging").items()]
        items.append((f"Training {entry.id}", _counts(entry.section("training"))))
    shown = "".join(f"<dt>{_text(label)}<dd>{_text(said)}" for label, said in items if said)
    return f"<dl class=facts>{shown}</dl>" if shown else ""


def _counts(report: Any) -> str:
    """A report's plain numbers, in words."""
    if not isinstance(report, Mapping):
        return ""
    numbers = {k: v for k, v in sorted(report.items()) if isinstance(v, int | float) and not isinstance(v, bool)}
    return ", ".join(
        f"{k.replace('_', ' ')} {f'{v:,}' if isinstance(v, int) else f'{v:,.4g}'}" for k, v in numbers.items()
    )


def provenance(board: Board) -> str:
    """Each row's provenance, folded up."""
    return "".join(
        f"<details><summary>{_text(entry.id)}</summary><pre tabindex=0>{_json(entry.provenance)}</pre></details>"
        for entry in board.entries
    )


def _json(value: Any) -> str:
    return escape(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))
