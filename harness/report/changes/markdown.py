"""What changed between two boards as Markdown, for a pull request."""

from harness.report.changes.found import Changes
from harness.report.changes.words import HOW_TESTED, board_title, change_line, moves_table, summary
from harness.report.markup import bullets, escape_markdown, table


def changes_markdown(changes: Changes) -> str:
    """The summary, then the sections, then a table for each figure; rows that moved are bold."""
    old, new = (escape_markdown(board_title(board)) for board in (changes.old, changes.new))
    parts = [f"# {old} → {new}", bullets(escape_markdown(line) for line in summary(changes))]
    for title, found in changes.sections:
        heads = ["row" if title == "Computed anew" else "field", "change"]
        rows = [[escape_markdown(change_line(change)), escape_markdown(change.text)] for change in found]
        parts += [f"## {title}", table(heads, rows, left=2)]
    tables = [moves_table(moved) for moved in changes.moves]
    for drawn in tables:
        parts.append(f"## {escape_markdown(drawn.title)}")
        if drawn.rows:
            # A row's name comes from a recipe; its figures are formatted here.
            cells = [[_bold(cell, bold) for cell in (escape_markdown(row[0]), *row[1:])] for row, bold in drawn.marked]
            parts.append(table(drawn.heads, cells, left=1))
        parts += [escape_markdown(note) for note in drawn.notes]
    parts += [HOW_TESTED] if any(drawn.rows for drawn in tables) else []
    return "\n\n".join(parts) + "\n"


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold and text else text
