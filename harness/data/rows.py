"""Rows of data files: JSONL, a JSON list, CSV or TSV (all plain or .gz), or Parquet. Each row comes with its location.

The files are other people's: they are opened and parsed by `harness.outside`, within its limits.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.data.columns.delimited import SUFFIXES, delimited_rows, is_delimited
from harness.data.pairs import kind
from harness.errors import DataError, closest, quoted
from harness.outside import FREELY_UNPACKED, LARGEST_RATIO, decoded, open_file, parse_json, read_file, reason_of
from harness.printable import first_line

LocatedRow = tuple[str, dict[str, Any]]
"""A row's location (`FILE:LINE`, or `FILE, row N`, counted from 1) and the row."""
LARGEST_BATCH = 256 << 20
"""Bytes of the rows of a Parquet file that are read at once, if each holds the largest value that there can be."""
MOST_ROWS = 50_000_000
"""Rows of the largest Parquet file: more than any set of preferences has. A file of a kilobyte may claim 10^12."""
_PARQUET = b"PAR1"
_PACKED = {
    b"PK\x03\x04": "a zip file, perhaps an Excel workbook; save it as CSV UTF-8",
    b"\x1f\x8b": "packed with gzip, which its name doesn't say; let it end in .gz",
    b"BZh": "packed with bzip2; unpack it, or pack it with gzip",
    b"\xfd7zXZ": "packed with xz; unpack it, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it, or pack it with gzip",
}
"""How files begin whose rows can't be read as they are, and what to do."""


def read_content(path: Path) -> bytes:
    """A file's content; a `.gz` file is decompressed. Raises DataError."""
    try:
        content = read_file(path)
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError) as error:
        expected = "expected JSONL, JSON or CSV, plain or .gz, or Parquet"
        raise DataError(f"{path}: can't be read ({reason_of(error)}); {expected}") from None
    if packed := next((said for sign, said in _PACKED.items() if content.startswith(sign)), None):
        raise DataError(f"{path}: {packed}")
    return content


def _missing(path: Path) -> DataError:
    near = [p.name for p in path.parent.iterdir() if p.is_dir() or _is_data(p)] if path.parent.is_dir() else []
    close = closest(path.name, near)
    hint = f"; did you mean '{close}'?" if close else ""
    return DataError(f"{path}: no such file; expected a file of preference pairs (JSONL, JSON, CSV or Parquet){hint}")


def _is_data(path: Path) -> bool:
    return {".jsonl", ".json", ".parquet", *SUFFIXES} & set(path.suffixes[-2:]) != set()


def content_sha256(content: bytes) -> str:
    """SHA-256 (hex) of a file's decompressed content."""
    return hashlib.sha256(content).hexdigest()


def files_sha256(files: Sequence[Path]) -> str:
    """For one file, the SHA-256 of its decompressed content; for several, the SHA-256 over those, in order. File names
    and locations don't matter. Raises DataError."""
    each = [content_sha256(read_content(path)) for path in files]
    return each[0] if len(each) == 1 else content_sha256("\n".join(each).encode())


def is_parquet(path: Path) -> bool:
    """Whether a file has the Parquet magic number. Raises DataError if it can't be read."""
    try:
        with open_file(path) as file:
            return file.read(len(_PARQUET)) == _PARQUET
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read ({reason_of(error)}); expected a file") from None


def matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files, sorted by name, that match the first pattern with any match. Raises DataError if there is none."""
    for pattern in patterns:
        files = sorted(p for p in folder.glob(pattern) if p.is_file())
        for path in files:
            try:
                open_file(path, inside=folder).close()
            except OSError as error:
                raise DataError(f"{path}: can't be read ({reason_of(error)}); expected a file of {folder}") from None
        if files:
            return files
    contents = ", ".join(sorted(p.name for p in folder.iterdir()))[:200] or "nothing"
    raise DataError(f"{folder}: has no {' or '.join(patterns)}; it has {contents}")


def file_rows(files: Sequence[Path]) -> Iterator[LocatedRow]:
    """The rows of all files in order, each in any of the supported formats. Raises DataError."""
    for path in files:
        if is_parquet(path):
            yield from _parquet_rows(path)
        elif is_delimited(path):
            yield from delimited_rows(read_content(path), str(path))
        else:
            yield from json_rows(read_content(path), str(path))


def json_rows(content: bytes, name: str) -> Iterator[LocatedRow]:
    """The objects of a JSONL file or of a JSON list. `name`: the file's name in errors. Raises DataError."""
    content = _in_utf8(content, name)
    if content.lstrip()[:1] == b"[":
        yield from _list_rows(content, name)
        return
    # Not splitlines(): JSON strings may contain U+2028 and other line separators.
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line := line.strip():
            yield f"{name}:{number}", _object(_json(line, f"{name}:{number}", _expected(line)), f"{name}:{number}")


def _expected(line: bytes) -> str:
    """What is expected in place of a line that isn't JSON."""
    if not line.startswith(b"{"):
        return "one JSON object per line (a table's name ends in .csv or .tsv)"
    if not line.endswith(b"}"):
        return "each JSON object on one line, or all of them in a list [...]"
    return "one JSON object per line"


def _in_utf8(content: bytes, name: str) -> bytes:
    """The content without a byte order mark; UTF-16 with one becomes UTF-8."""
    if content.startswith(_PARQUET):
        raise DataError(f"{name}: a Parquet file in .gz; unpack it")
    if not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.removeprefix(b"\xef\xbb\xbf")
    try:
        return decoded(content).encode()
    except UnicodeError:
        raise DataError(f"{name}: not UTF-16, as its first bytes say; expected JSON in UTF-8") from None


def _list_rows(content: bytes, name: str) -> Iterator[LocatedRow]:
    rows = _json(content, name, "a JSON list of objects, or one object per line")
    for number, row in enumerate(rows, start=1):
        place = f"{name}, row {number}"
        yield place, _object(row, place)


def _json(content: bytes, place: str, expected: str) -> Any:
    try:
        return parse_json(content, nan="none")  # pandas writes NaN for an empty cell
    except UnicodeDecodeError:
        raise DataError(f"{place}: not UTF-8; expected {expected}, in UTF-8") from None
    except json.JSONDecodeError as error:
        where = f" at line {error.lineno}" if error.lineno > 1 else ""
        raise DataError(f"{place}: not JSON ({error.msg}{where}); expected {expected}") from None
    except ValueError as error:
        raise DataError(f"{place}: not JSON ({error}); expected {expected}") from None


def _object(row: Any, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{place}: expected a JSON object, got {kind(row)}")
    return row


def _parquet_rows(path: Path) -> Iterator[LocatedRow]:
    number = 0
    for batch in _batches(path):
        for row in batch.to_pylist():
            number += 1
            yield f"{path}, row {number}", row


def check_parquet(path: Path) -> None:
    """Unpacks a Parquet file, some rows at a time. Raises DataError for one that is damaged or unpacks to too much."""
    for _ in _batches(path):
        pass


def _batches(path: Path) -> Iterator[Any]:
    """The file's record batches. Raises DataError."""
    import pyarrow
    import pyarrow.parquet

    size = 0
    try:
        with open_file(path) as opened, pyarrow.parquet.ParquetFile(opened) as file:
            _check_names(path, file.schema_arrow.names)
            most, at_once = _limits(path, opened.seek(0, 2), file.metadata)
            for batch in file.iter_batches(batch_size=at_once):
                # A value that every row repeats is stored once: the sizes in the file say nothing about all rows.
                if (size := size + batch.nbytes) > most:
                    raise DataError(f"{path}: unpacks to more than {most:,} bytes; expected a smaller file")
                yield batch
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: not a readable Parquet file ({first_line(error)}); write it again") from None


def _check_names(path: Path, names: Sequence[str]) -> None:
    """Raises DataError for columns of one name, of which a row would hold only the last."""
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{path}: two columns are named {quoted(twice)}; expected each name once")


def _limits(path: Path, size: int, meta: Any) -> tuple[int, int]:
    """(the most bytes that a Parquet file of `size` bytes may unpack to, the rows to read at once). Raises DataError
    for a file that says it has more."""
    most = max(FREELY_UNPACKED, LARGEST_RATIO * size)
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    if meta.num_rows > MOST_ROWS:
        raise DataError(f"{path}: says that it has {meta.num_rows:,} rows; expected at most {MOST_ROWS:,}")
    if sum(group.total_byte_size for group in groups) > most:
        raise DataError(f"{path}: unpacks to more than {most:,} bytes; expected a smaller file")
    chunks = [group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns)]
    return most, min(64, max(1, LARGEST_BATCH // max(1, 1, *chunks)))
