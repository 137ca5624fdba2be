"""What the board's Markdown and CSV are made of: escaped texts, tables, lists."""

import re
from collections.abc import Iterable, Sequence

from harness.board_rows import visible

# Markup, line breaks and marks that turn the writing direction anywhere; `_` but inside a word; spaces at an edge.
_MARKUP = re.compile(
    r"[\\`*\[\]<>&|~$\r\n\t\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]"
    r"|(?<![^\W_])_|_(?![^\W_])|^[ #+=-]| $"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line and in one table cell: markup, line breaks and HTML become
    character references. Control characters have none and are shown as their pictures (U+2400 and on)."""
    return visible(_MARKUP.sub(lambda found: f"&#{ord(found[0])};", text))


def escape_csv(text: str) -> str:
    """Text that no spreadsheet takes for a formula: a leading = + - @ tab or line break gets an apostrophe before it,
    unless the whole is a number. An apostrophe that stands before one already is doubled, so nothing is lost."""
    dangerous = text.lstrip("'").startswith(_FORMULA) and not _NUMBER.fullmatch(text)
    return f"'{text}" if dangerous else text


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A Markdown table that also reads as text: the first `left` columns flush left, the others right."""
    widths = [max(3, *(len(line[i]) for line in (heads, *rows))) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(heads), line(rule), *(line(row) for row in rows)])


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
