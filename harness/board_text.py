"""A board drawn as Markdown and CSV. Both hold no times, so that the same results give the same bytes."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from harness.board_data import COSTS, agreement_notes, costs, data_stages, ranking_notes
from harness.board_markup import bullets, escape_csv, escape_markdown, table
from harness.board_notes import (
    admission_notes,
    budget_notes,
    heldout_notes,
    leak_notes,
    logits_notes,
    reconstruction_notes,
    uncalibrated_note,
)
from harness.board_pairs import Compared
from harness.board_rows import (
    CATEGORIES,
    COLUMNS,
    UNPAIRED,
    Board,
    Column,
    Entry,
    common_counts,
    comparable,
    counts,
    figure,
    further_columns,
    judge_name,
    number,
    present,
    troubles,
    whose_doubts,
)
from harness.board_seeds import OVER_SEEDS, seed_groups, spread_figure
from harness.board_sweep import sweep_markdown
from harness.types import Metric

AMOUNTS = {
    "steps": "steps",
    "prompts_seen": "prompts seen",
    "forward_tokens": "tokens through the policy",
    "tokens": "response tokens",
}
# --- CSV


def csv_text(board: Board) -> str:
    """One line a row: id, method, then value, stderr, ci95_low, ci95_high, n and n_invalid of every metric on the
    board, in full precision; empty where there is none."""
    columns = present((*COLUMNS, *CATEGORIES, *further_columns(board.entries)), board.entries)
    suffixes = ("", ".stderr", ".ci95_low", ".ci95_high", ".n", ".n_invalid")
    lines = [_csv_line(["id", "method", *(c.metric + suffix for c in columns for suffix in suffixes)])]
    for entry in board.entries:
        cells = [entry.id, entry.method]
        for column in columns:
            cells += _csv_cells(entry.metrics.get(column.metric))
        lines.append(_csv_line(cells))
    return "".join(lines)


def _csv_cells(metric: Metric | None) -> list[str]:
    if metric is None:
        return [""] * 6
    low, high = metric.ci95 or (None, None)
    return ["" if x is None else repr(x) for x in (metric.value, metric.stderr, low, high, metric.n, metric.n_invalid)]


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    # The writer quotes the line breaks that its own terminator has; "\n" alone would leave a "\r" in a cell bare.
    csv.writer(line, lineterminator="\r\n").writerow([escape_csv(cell) for cell in cells])
    return line.getvalue().removesuffix("\r\n") + "\n"


# --- Markdown


def markdown(board: Board, compared: Compared) -> str:
    """The whole of `board.md`. `compared`: its rows, by pairs."""
    groups = comparable(board.entries)
    parts = [f"# Leaderboard: {escape_markdown(board.name)}", _introduction(board.entries)]
    if note := uncalibrated_note(board.entries):
        parts.append(f"> **Uncalibrated judge.** {escape_markdown(note)}")
    if len(groups) > 1:
        parts.append(
            f"The rows stand in {len(groups)} tables because they were judged by different judges or on different "
            "prompts: figures of different tables can't be compared."
        )
    for place, rows in enumerate(groups, 1):
        parts += _group(rows, f"Table {place}: " if len(groups) > 1 else "")
    parts += sweep_markdown(board.entries)
    parts += compared.sections()
    parts += _data_and_training(board.entries)
    notes = [
        f"Brackets are 95 % intervals (bootstrap by prompt; Wilson's for proportions). {UNPAIRED}",
        "`–`: not measured for that row. "
        + ("LC: length-controlled, by the regression that the benchmark's line names. " * _has_lc(board.entries))
        + "Held-out figures: implicit rewards, log π(y|x) − log π_ref(y|x), on pairs that nothing was trained on; "
        "zero for `base` by definition, so that every pair is a tie and counts one half.",
        *logits_notes(board.entries),
        *heldout_notes(board.entries),
        *(escape_markdown(note) for note in (*budget_notes(board.entries), *reconstruction_notes(board.entries))),
    ]
    parts += ["## Notes", bullets(notes)]
    return "\n\n".join(parts) + "\n"


def _has_lc(entries: Iterable[Entry]) -> bool:
    return any("alpaca_eval.lc_win_rate" in entry.metrics for entry in entries)


def _introduction(entries: Sequence[Entry]) -> str:
    text = "One row a model. "
    if any(entry.section("judge") for entry in entries):
        text += "All rows of a table were asked the same prompts and judged by the same judge."
    else:
        text += "No judge was asked: all figures are about pairs that nothing was trained on."
    if any(entry.method == "base" for entry in entries):
        text += (
            " `base` is the policy before training; every other row is that policy after training with the loss "
            "that is named beside it."
        )
    if public := [entry.id for entry in entries if entry.method == "public"]:
        text += f" From the public leaderboard, as it stands there: {escape_markdown(', '.join(public))}."
    for tuned in (entry for entry in entries if entry.method == "sft"):
        text += f" `{escape_markdown(tuned.id)}` was fine-tuned on the best response of each training prompt."
        if started := [entry.id for entry in entries if entry.section("sft").get("row") == tuned.id]:
            text += (
                f" {escape_markdown(', '.join(started))}: trained from that model and held to it, so that their "
                "held-out figures are relative to it."
            )
    return text


def _group(rows: Sequence[Entry], prefix: str) -> list[str]:
    judge = escape_markdown(judge_name(rows[0])) or "no judge"
    parts = [f"## {prefix}Results"]
    if prefix or rows[0].section("judge") or rows[0].section("benchmarks"):
        parts.append(_measured_with(rows[0], judge))
    parts.append(_figures(present(COLUMNS, rows), rows, loss=True))
    parts += _over_seeds(rows)
    if categories := present(CATEGORIES, rows):
        parts += ["### MT-bench by category", _figures(categories, rows, head=lambda column: column.title)]
    if further := present(further_columns(rows), rows):
        parts += ["### Further figures", _figures(further, rows)]
    if said := [f"**{escape_markdown(i)}**: {escape_markdown(doubt)}" for i, doubt in whose_doubts(rows)]:
        parts += ["### What makes figures doubtful", bullets(said)]
    return parts


def _over_seeds(rows: Sequence[Entry]) -> list[str]:
    groups = seed_groups(rows)
    if not groups:
        return []
    columns = [c for c in COLUMNS if any(c.metric in group.metrics for group in groups)]
    lines = []
    for group in groups:
        known = [group.metrics.get(column.metric) for column in columns]
        figures = [spread_figure(s, c.decimals) if s else "–" for s, c in zip(known, columns, strict=True)]
        lines.append([escape_markdown(group.method_id), escape_markdown(group.method), group.seeds_text, *figures])
    heads = ["method", "loss", "training seeds", *(_full_head(column) for column in columns)]
    return ["### Over training seeds", OVER_SEEDS, table(heads, lines, left=3)]


def _measured_with(entry: Entry, judge: str) -> str:
    lines = [f"Judge: {judge}" + _in_brackets(entry.section("judge"), skip=("name", "model"))]
    if calibration := entry.provenance.get("judge_calibration"):
        said = ", ".join(_scalars(calibration)) if isinstance(calibration, Mapping) else str(calibration)
        lines.append(f"Calibration of the judge: {escape_markdown(said)}")
    for name, identity in sorted(entry.section("benchmarks").items()):
        described = identity if isinstance(identity, Mapping) else {"identity": identity}
        lines.append(f"Benchmark: {escape_markdown(name)}{_in_brackets(described, skip=('name',))}")
    return bullets(lines)


def _in_brackets(identity: Mapping[str, Any], skip: Sequence[str] = ()) -> str:
    shown = ", ".join(_scalars(identity, skip))
    return f" ({escape_markdown(shown)})" if shown else ""


def _scalars(mapping: Mapping[str, Any], skip: Sequence[str] = ()) -> Iterable[str]:
    """The mapping's plain values as `name=value`, by name; hashes are cut to twelve digits."""
    for key in sorted(set(mapping) - set(skip)):
        value = mapping[key]
        if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{40,64}", value):
            yield f"{key}={value[:12]}…"
        elif isinstance(value, float):
            yield f"{key}={value:.6g}"
        elif isinstance(value, str | int):
            yield f"{key}={value}"


def _full_head(column: Column) -> str:
    unit = f", {column.unit}" if column.unit else ""
    return escape_markdown(f"{column.group} {column.title}{unit}".strip())


def _figures(
    columns: Sequence[Column],
    rows: Sequence[Entry],
    head: Callable[[Column], str] = _full_head,
    loss: bool = False,
) -> str:
    heads, cells = ["row", "loss"] if loss else ["row"], []
    common = {column: common_counts(column, rows) for column in columns}
    heads += [head(column) + (f" ({common[column]})" if common[column] else "") for column in columns]
    for row in rows:
        line = [escape_markdown(row.id), escape_markdown(_loss(row))] if loss else [escape_markdown(row.id)]
        for column in columns:
            line.append(_cell(row.metrics.get(column.metric), column.decimals, with_counts=common[column] is None))
        cells.append(line)
    return table(heads, cells, left=2 if loss else 1)


def _loss(row: Entry) -> str:
    return "–" if row.method == "base" else row.method


def _cell(metric: Metric | None, decimals: int, with_counts: bool) -> str:
    if metric is None:
        return "–"
    shown = figure(metric, decimals)
    return f"{shown} ({counts(metric)})" if with_counts and metric.value is not None else shown


def _data_and_training(entries: Sequence[Entry]) -> list[str]:
    facts = []
    for stage, label in data_stages(entries).items():
        for report, ids in _distinct(entries, stage):
            said = [escape_markdown(", ".join(_counted(report)))] if any(_counted(report)) else []
            if isinstance(accuracy := report.get("heldout_accuracy"), Mapping):
                metric = Metric.model_validate(accuracy)
                said.append(f"accuracy on held-out seed pairs {_cell(metric, 3, with_counts=True)}")
            notes = (*leak_notes(report), *admission_notes(report), *ranking_notes(report), *agreement_notes(report))
            said += [escape_markdown(note) for note in notes]
            model = f" ({escape_markdown(str(report['name']))})" if report.get("name") else ""
            if said:
                facts.append(f"{label}{model}{_whose(ids, entries)}: {'; '.join(said)}")
    trained = [entry for entry in entries if entry.section("training")]
    spent = [(entry, costs(entry)) for entry in entries]
    parts = [bullets(facts)] if facts else []
    if trained:
        amounts = {name: head for name, head in AMOUNTS.items() if any(name in e.section("training") for e in trained)}
        heads = ["row", "loss", "seed", *amounts.values(), "loss, first steps", "loss, last steps"]
        parts.append(table(heads, [_training_cells(entry, amounts) for entry in trained], left=2))
        if signs := [f"**{escape_markdown(e.id)}**: {escape_markdown(sign)}" for e in trained for sign in troubles(e)]:
            parts.append("What went wrong in training:\n\n" + bullets(signs))
    if any(cost is not None for _, found in spent for cost in found):
        lines = [[escape_markdown(entry.id), *(_cost(x) for x in found)] for entry, found in spent]
        parts.append(table(["row", *COSTS], lines, left=1))
    return ["## Data, training and cost", *parts] if parts else []


def _cost(value: float | None) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.4f}"


def _training_cells(entry: Entry, amounts: Iterable[str]) -> list[str]:
    training = entry.section("training")
    seed = entry.provenance.get("training_seed", entry.provenance.get("seed", "–"))
    cells = [escape_markdown(entry.id), escape_markdown(_loss(entry)), str(seed)]
    cells += [f"{x:,}" if isinstance(x := training.get(name), int) else "–" for name in amounts]
    cells += [
        number(x, 4) if isinstance(x := training.get(name), int | float) else "–"
        for name in ("first_loss", "last_loss")
    ]
    return cells


def _counted(report: Mapping[str, Any]) -> Iterable[str]:
    """A stage's counts as they are said: `24 kept`."""
    for key in sorted(report):
        value = report[key]
        if isinstance(value, int | float):
            shown = f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
            yield f"{shown} {key.replace('_', ' ')}"


def _distinct(entries: Iterable[Entry], stage: str) -> list[tuple[Mapping[str, Any], list[str]]]:
    """Each different report of a data stage, with the ids of the rows that rest on it."""
    found: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for entry in entries:
        if isinstance(report := entry.section("data").get(stage), Mapping):
            found.setdefault(json.dumps(report, sort_keys=True), (report, []))[1].append(entry.id)
    return list(found.values())


def _whose(ids: Sequence[str], entries: Sequence[Entry]) -> str:
    """Nothing where all trained rows share it; otherwise whose it is."""
    trained = {entry.id for entry in entries if entry.method != "base"}
    return "" if trained <= set(ids) else f" of {escape_markdown(', '.join(ids))}"
