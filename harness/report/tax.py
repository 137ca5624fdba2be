"""The tax section of a board: what training has cost in capabilities, for Markdown, the page and the terminal."""

from collections.abc import Sequence

from harness.boards.entry import Entry
from harness.claims.tax import RowTax, tax
from harness.report.markup import bullets, escape_markdown, table
from harness.report.sweep import SweepTable

TITLE = "What training has cost"
HOW_TAXED = (
    "Each row minus the untrained base it was trained from, prompt by prompt, with the 95 % CI of the change. No loss "
    "over a margin: the interval lies above minus the margin. A drop: it lies below 0. These figures are computed from "
    "the answers; no judge is asked."
)


def tax_notes(entries: Sequence[Entry]) -> list[str]:
    """One verdict per row."""
    return [f"{row.row}: {row.verdict}." for row in tax(entries)]


def tax_table(entries: Sequence[Entry]) -> SweepTable | None:
    """The changes: a line per row, a column per figure. None for a board without such figures."""
    rows = tax(entries)
    if not rows:
        return None
    figures = list(dict.fromkeys(change.figure.metric for row in rows for change in row.changes))
    heads = {change.figure.metric: change.figure.difference_head for row in rows for change in row.changes}
    lines = [[row.row, row.base, *_texts(row, figures)] for row in rows]
    return SweepTable("Change against the base", ["row", "base", *(heads[metric] for metric in figures)], lines, 2)


def _texts(row: RowTax, figures: Sequence[str]) -> list[str]:
    changes = {change.figure.metric: change.text for change in row.changes}
    return [changes.get(metric, "–") for metric in figures]


def tax_markdown(entries: Sequence[Entry]) -> list[str]:
    """The section as Markdown."""
    content = tax_table(entries)
    if content is None:
        return []
    rows = [[*map(escape_markdown, row[: content.left]), *row[content.left :]] for row in content.rows]
    heads = [escape_markdown(head) for head in content.heads]
    verdicts = bullets(escape_markdown(note) for note in tax_notes(entries))
    return [f"## {TITLE}", HOW_TAXED, verdicts, table(heads, rows, left=content.left)]
