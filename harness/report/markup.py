"""Building blocks of the board's Markdown and CSV: escaped text, tables, lists."""

import re
from collections.abc import Iterable, Sequence

from harness.boards.format import visible

# Markup, line breaks and marks of writing direction anywhere; `_` unless it is inside a word; spaces at either end.
_MARKUP = re.compile(
    r"[\\`*\[\]<>&|~$\r\n\t\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]"
    r"|(?<![^\W_])_|_(?![^\W_])|^[ #+=-]| $"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def escape_markdown(text: str) -> str:
    """Text that Markdown shows verbatim, on one line and in one table cell: markup, line breaks and HTML become
    character references. Control characters have no references and are shown as their pictures (from U+2400)."""
    return visible(_MARKUP.sub(lambda match: f"&#{ord(match[0])};", text))


def escape_csv(text: str) -> str:
    """Text that no spreadsheet takes for a formula: an apostrophe is put before a leading = + - @, tab or line break,
    unless the whole text is a number. An apostrophe already before one of these is doubled, so nothing is lost."""
    dangerous = text.lstrip("'").startswith(_FORMULA) and not _NUMBER.fullmatch(text)
    return f"'{text}" if dangerous else text


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A Markdown table that is also readable as plain text: the first `left` columns are left-aligned, the others
    right-aligned."""
    widths = [max(3, *(len(line[i]) for line in (heads, *rows))) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(heads), line(rule), *(line(row) for row in rows)])


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
