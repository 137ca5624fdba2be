"""A board drawn as Markdown. It holds no times, so that the same results give the same bytes."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from harness.boards.board import Board
from harness.boards.catalog import Figures, by_group, present
from harness.boards.entry import Entry, comparable
from harness.boards.facts import (
    EVALUATION_COSTS,
    doubts_of_rows,
    evaluation_costs,
    judge_name,
    loss_label,
    one_a_training,
    training_problems,
)
from harness.boards.format import UNPAIRED, common_counts, counts, number, with_interval
from harness.boards.provenance import JudgeCalibration
from harness.boards.training_seeds import OVER_SEEDS, spread_figure, varied_seed_groups
from harness.claims.answer import answer
from harness.figures import Figure
from harness.report.answers import answer_markdown
from harness.report.comparisons import Compared
from harness.report.curves import curves_markdown
from harness.report.judges import JudgeWarning, equivalent_notes, judge_warnings
from harness.report.markup import bullets, escape_markdown, table
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
from harness.report.sweep import sweep_markdown
from harness.report.tax import tax_markdown
from harness.types import Metric

TRAINING_AMOUNTS = {
    "steps": "steps",
    "prompts_seen": "prompts seen",
    "forward_tokens": "tokens through the policy",
    "tokens": "response tokens",
}


def board_markdown(board: Board, compared: Compared) -> str:
    """The text of `board.md`. `compared`: the paired comparisons of its rows."""
    groups = comparable(board.entries)
    found = answer(board.entries)
    warnings = judge_warnings(board.entries)
    parts = [f"# Leaderboard: {escape_markdown(board.name)}"]
    parts += [warning_markdown(warning) for warning in warnings if warning.is_loud]
    parts += [*(answer_markdown(found) if found else []), _introduction(board.entries)]
    parts += [warning_markdown(warning) for warning in warnings if not warning.is_loud]
    if len(groups) > 1:
        parts.append(
            f"The rows stand in {len(groups)} tables because they were judged by different judges or on different "
            "prompts: figures of different tables can't be compared."
        )
    for table_number, rows in enumerate(groups, 1):
        parts += _group(rows, f"Table {table_number}: " if len(groups) > 1 else "")
    parts += tax_markdown(board.entries)
    parts += curves_markdown(board.entries)
    parts += sweep_markdown(board.entries)
    parts += compared.sections()
    parts += _data_and_training(board.entries)
    notes = [
        "Brackets are 95 % CIs (bootstrap over prompts; an exact interval where they are few; Wilson's for "
        f"proportions). {UNPAIRED}",
        "`–`: not measured for that row. "
        + "".join(f"{note} " for note in figure_notes(board.entries))
        + "Held-out figures: implicit rewards, log π(y|x) − log π_ref(y|x), on pairs held out from all training; "
        "zero for `base` by definition, so that every pair is a tie and counts one half; `base` is no opponent there.",
        *benchmark_notes(board.entries),
        *heldout_notes(board.entries),
        *(escape_markdown(note) for note in (*unchecked_notes(board.entries), *answering_notes(board.entries))),
        *(escape_markdown(note) for note in (*budget_notes(board.entries), *margin_notes(board.entries))),
        *map(escape_markdown, reconstruction_notes(board.entries)),
    ]
    parts += ["<details>\n<summary>Notes</summary>", bullets(notes), "</details>"]
    return "\n\n".join(parts) + "\n"


def warning_markdown(warning: JudgeWarning) -> str:
    """A warning as a quotation; a loud one as an alert, which GitHub draws in red."""
    alert = "> [!CAUTION]\n" if warning.is_loud else ""
    return f"{alert}> **{warning.title}** {escape_markdown(warning.text)}"


def _introduction(entries: Sequence[Entry]) -> str:
    """What the rows are: trained, untrained, fine-tuned, or from a public leaderboard."""
    text = "One row per model. "
    if any(entry.provenance.judge for entry in entries):
        text += "All rows of a table were asked the same prompts and judged by the same judge."
    else:
        computed = any(entry.provenance.benchmarks for entry in entries)
        what = "computed from the answers, or about pairs" if computed else "about pairs"
        text += f"No judge was asked: all figures are {what} held out from all training."
    if any(entry.method == "base" for entry in entries):
        text += (
            " `base` is the policy before training; every other row is that policy after training with the loss "
            "that is named beside it."
        )
    if public_ids := [entry.id for entry in entries if entry.method == "public"]:
        text += f" From the public leaderboard, unchanged: {escape_markdown(', '.join(public_ids))}."
    if reported_ids := [entry.id for entry in entries if entry.method == "reported"]:
        text += f" Reported elsewhere, unchanged: {escape_markdown(', '.join(reported_ids))}."
    for tuned in (entry for entry in entries if entry.method == "sft"):
        text += f" `{escape_markdown(tuned.id)}` was fine-tuned on the best response of each training prompt."
        if based_on_it := [e.id for e in entries if e.provenance.sft and e.provenance.sft.row == tuned.id]:
            text += (
                f" {escape_markdown(', '.join(based_on_it))}: trained from that model, which is also their reference, "
                "so that their held-out figures are relative to it."
            )
    return text


def _group(rows: Sequence[Entry], prefix: str) -> list[str]:
    """The section of a group of comparable rows."""
    parts = [f"## {prefix}Results"]
    if prefix or rows[0].provenance.judge or rows[0].provenance.benchmarks:
        parts.append(measured_with(rows[0]))
    figures = Figures(rows)
    parts.append(figures_table(present(figures.board, rows), rows, loss=True))
    parts += [escape_markdown(note) for note in equivalent_notes(rows)]
    parts += _over_seeds(rows, figures)
    for group, categories in by_group(present(figures.categories, rows)).items():
        parts += [f"### {escape_markdown(group)} by category", figures_table(categories, rows, head=_title)]
    if further := present(figures.details, rows):
        parts += ["### Further figures", figures_table(further, rows)]
    if warnings := [f"**{escape_markdown(i)}**: {escape_markdown(doubt)}" for i, doubt in doubts_of_rows(rows)]:
        parts += ["### What makes figures doubtful", bullets(warnings)]
    return parts


def _title(figure: Figure) -> str:
    return escape_markdown(figure.title)


def _over_seeds(rows: Sequence[Entry], figures: Figures) -> list[str]:
    groups = varied_seed_groups(rows)
    if not groups:
        return []
    columns = [c for c in figures.board if any(c.metric in group.metrics for group in groups)]
    lines = []
    for group in groups:
        over_seeds = [group.metrics.get(column.metric) for column in columns]
        spreads = [spread_figure(s, c) if s else "–" for s, c in zip(over_seeds, columns, strict=True)]
        lines.append([escape_markdown(group.label), escape_markdown(group.method), group.seeds_text, *spreads])
    heads = ["method", "loss", "training seeds", *(_full_head(column) for column in columns)]
    return ["### Over training seeds", OVER_SEEDS, table(heads, lines, left=3)]


def measured_with(entry: Entry) -> str:
    """A list of what a row was measured with: its judge, the judge's calibration, and its benchmarks."""
    judge = escape_markdown(judge_name(entry)) or "no judge"
    lines = [f"Judge: {judge}" + _in_brackets(entry.provenance.judge or {}, skip=("name", "model"))]
    if calibration := entry.provenance.judge_calibration:
        text = calibration.text if isinstance(calibration, JudgeCalibration) else calibration
        lines.append(f"Calibration of the judge: {escape_markdown(text)}")
    for name, identity in sorted(entry.provenance.benchmarks.items()):
        described = identity if isinstance(identity, Mapping) else {"identity": identity}
        lines.append(f"Benchmark: {escape_markdown(name)}{_in_brackets(described, skip=('name',))}")
    return bullets(lines)


def _in_brackets(identity: Mapping[str, Any], skip: Sequence[str] = ()) -> str:
    text = ", ".join(_scalars(identity, skip))
    return f" ({escape_markdown(text)})" if text else ""


def _scalars(mapping: Mapping[str, Any], skip: Sequence[str] = ()) -> Iterable[str]:
    """The mapping's texts and numbers as `name=value`, sorted by name; hashes are cut to twelve digits."""
    for key in sorted(set(mapping) - set(skip)):
        value = mapping[key]
        if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{40,64}", value):
            yield f"{key}={value[:12]}…"
        elif isinstance(value, float):
            yield f"{key}={value:.6g}"
        elif isinstance(value, str | int):
            yield f"{key}={value}"


def _full_head(figure: Figure) -> str:
    return escape_markdown(figure.head)


def figures_table(
    columns: Sequence[Figure],
    rows: Sequence[Entry],
    head: Callable[[Figure], str] = _full_head,
    loss: bool = False,
) -> str:
    """A Markdown table of figures, one line per row. `head`: the heading for a figure; `loss`: add the rows' losses."""
    heads, cells = ["row", "loss"] if loss else ["row"], []
    common = {column: common_counts(column, rows) for column in columns}
    heads += [head(column) + (f" ({common[column]})" if common[column] else "") for column in columns]
    for row in rows:
        line = [escape_markdown(row.id), escape_markdown(loss_label(row))] if loss else [escape_markdown(row.id)]
        for column in columns:
            line.append(_cell(row.metrics.get(column.metric), column.decimals, with_counts=common[column] is None))
        cells.append(line)
    return table(heads, cells, left=2 if loss else 1)


def _cell(metric: Metric | None, decimals: int, with_counts: bool) -> str:
    if metric is None:
        return "–"
    text = with_interval(metric, decimals)
    return f"{text} ({counts(metric)})" if with_counts and metric.value is not None else text


def _data_and_training(entries: Sequence[Entry]) -> list[str]:
    """The reports of the data stages, the training runs with what went wrong in them, and the evaluation costs."""
    ends = one_a_training(entries)
    facts = _data_facts(ends)
    trained = [entry for entry in ends if entry.provenance.training]
    costs = [(entry, evaluation_costs(entry)) for entry in entries]
    parts = [bullets(facts)] if facts else []
    if trained:
        amounts = {name: head for name, head in TRAINING_AMOUNTS.items() if any(name in _training(e) for e in trained)}
        heads = ["row", "loss", "seed", *amounts.values(), "loss, first steps", "loss, last steps"]
        parts.append(table(heads, [_training_cells(entry, amounts) for entry in trained], left=2))
        problems = [(e.id, problem) for e in trained for problem in training_problems(e)]
        if lines := [f"**{escape_markdown(i)}**: {escape_markdown(problem)}" for i, problem in problems]:
            parts.append("What went wrong in training:\n\n" + bullets(lines))
    if any(cost is not None for _, amounts in costs for cost in amounts):
        cells = [[escape_markdown(entry.id), *(_cost(cost) for cost in row)] for entry, row in costs]
        parts.append(table(["row", *EVALUATION_COSTS], cells, left=1))
    return ["## Data, training and cost", *parts] if parts else []


def _data_facts(entries: Sequence[Entry]) -> list[str]:
    """One line per data stage and distinct report: its counts and notes."""
    facts = []
    for stage, label in data_stages(entries).items():
        for report, ids in stage_reports(entries, stage):
            texts = [escape_markdown(", ".join(_counted(report)))] if any(_counted(report)) else []
            if isinstance(accuracy := report.get("heldout_accuracy"), Mapping):
                metric = Metric.model_validate(accuracy)
                texts.append(f"accuracy on held-out seed pairs {_cell(metric, 3, with_counts=True)}")
            texts += [escape_markdown(note) for note in stage_notes(report)]
            model = f" ({escape_markdown(str(report['name']))})" if report.get("name") else ""
            if texts:
                facts.append(f"{label}{model}{_whose(ids, entries)}: {'; '.join(texts)}")
    return facts


def _cost(value: float | None) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.4f}"


def _training(entry: Entry) -> dict[str, Any]:
    """The report of the row's training; empty without one."""
    return entry.provenance.training.plain() if entry.provenance.training else {}


def _training_cells(entry: Entry, amounts: Iterable[str]) -> list[str]:
    training, about = _training(entry), entry.provenance
    seed = about.seed if about.training_seed is None else about.training_seed
    cells = [escape_markdown(entry.id), escape_markdown(loss_label(entry)), "–" if seed is None else str(seed)]
    cells += [f"{x:,}" if isinstance(x := training.get(name), int) else "–" for name in amounts]
    cells += [
        number(x, 4) if isinstance(x := training.get(name), int | float) else "–"
        for name in ("first_loss", "last_loss")
    ]
    return cells


def _counted(report: Mapping[str, Any]) -> Iterable[str]:
    """A stage's counts in words: `24 kept`."""
    for key in sorted(report):
        value = report[key]
        if isinstance(value, int | float):
            amount = f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
            yield f"{amount} {key.replace('_', ' ')}"


def _whose(ids: Sequence[str], entries: Sequence[Entry]) -> str:
    """` of a, b`: the rows that a report is about; empty where all trained rows share it."""
    trained = {entry.id for entry in entries if entry.method != "base"}
    return "" if trained <= set(ids) else f" of {escape_markdown(', '.join(ids))}"
