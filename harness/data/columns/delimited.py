"""Rows of CSV and TSV files, each with the line on which it begins.

The files are other people's: their decoded content comes from `harness.outside`, within its limits.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.outside import decoded

SUFFIXES = (".csv", ".tsv", ".tab")
LONGEST_CELL = 16 << 20
"""Characters of the longest cell: more than any text that a model reads."""
LONGEST_HEADER = 100_000
MOST_COLUMNS = 1000
_DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}
_LINE_BREAK = re.compile(r"[\r\n]")
_ENCODED = "expected text in UTF-8 (in Excel: save as CSV UTF-8)"


def is_delimited(path: Path) -> bool:
    """Whether a file's name, apart from `.gz`, is that of a CSV or TSV file."""
    return path.with_suffix("").suffix.lower() in SUFFIXES if path.suffix == ".gz" else path.suffix.lower() in SUFFIXES


def delimited_rows(content: bytes, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(`FILE:LINE`, the row) of a table whose first line names the columns. Cells are separated by commas, semicolons
    or tabs, whichever gives the first line most cells; quoted ones may hold line breaks. All are texts. `name`: the
    file's name in errors. Raises DataError."""
    text = _text(content, name)
    csv.field_size_limit(LONGEST_CELL)
    first = _LINE_BREAK.split(text.lstrip("\r\n"), maxsplit=1)[0]
    if len(first) > LONGEST_HEADER:
        raise DataError(f"{name}:1: {len(first):,} characters in the first line; expected the columns' names")
    if first.lower().startswith("sep=") and len(first) == 5:  # Excel's own way to say it
        delimiter, skipped = first[4], 1
        text = text[text.index(first) + 5 :].removeprefix("\r").removeprefix("\n")  # its line still counts
    else:
        delimiter, skipped = max(_DELIMITERS, key=lambda mark: len(next(csv.reader([first], delimiter=mark), []))), 0
    mark = re.escape(delimiter)
    spaced = delimiter in first and first.count(delimiter) == len(re.findall(rf"{mark} +", first))
    # newline="": line breaks in quoted cells stay as they are.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=spaced)
    may_be_quoted = re.compile(r"[ \t]+\".*\"\s*", re.DOTALL) if re.search(rf"{mark}[ \t]+\"", text) else None
    columns: list[str] = []
    while True:
        place = f"{name}:{reader.line_num + 1 + skipped}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{place}: not CSV ({error}); expected cells with quotes around them closed") from None
        if not any(cell.strip() for cell in cells):
            continue
        if not columns:
            columns = _columns(cells, place)
            continue
        if len(cells) != len(columns):
            expected = f"expected {len(columns)}, as the first line has, separated by {_shown(delimiter)}"
            raise DataError(f"{place}: {len(cells)} cells; {expected}, with quotes around texts that contain it")
        if may_be_quoted and any(map(may_be_quoted.fullmatch, cells)):
            raise DataError(
                f"{place}: a space before a quoted text; expected the quote right after {_shown(delimiter)}"
            )
        yield place, dict(zip(columns, cells, strict=True))


def _text(content: bytes, name: str) -> str:
    try:
        text = decoded(content)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{name}:{line}: not UTF-8; {_ENCODED}") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{name}:{line}: holds a zero byte; {_ENCODED}")
    if text.lstrip()[:2] in ('{"', "[{"):
        raise DataError(f"{name}: JSON, though it is named or read as CSV; rename it to .jsonl or .json")
    return text


def _columns(cells: list[str], place: str) -> list[str]:
    columns = [cell.strip() for cell in cells]
    if len(columns) > MOST_COLUMNS:
        raise DataError(f"{place}: {len(columns):,} columns; expected at most {MOST_COLUMNS:,}")
    if len(columns) == 1 and not columns[0].isidentifier():  # a file of prompts alone may have one
        raise DataError(f"{place}: one column; expected the columns' names, separated by commas, semicolons or tabs")
    named = [column for column in columns if column]
    if twice := next((column for column in named if named.count(column) > 1), None):
        raise DataError(f"{place}: two columns are named {twice[:60]!r}; expected each name once")
    # pandas writes its index without a name.
    return [column or f"(column {i})" for i, column in enumerate(columns, start=1)]


def _shown(delimiter: str) -> str:
    return _DELIMITERS.get(delimiter, repr(delimiter))
