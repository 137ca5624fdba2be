"""Rows of data files: JSONL, a JSON list (both plain or .gz), or Parquet. Each row comes with its location."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.data.pairs import kind
from harness.errors import DataError, closest

LocatedRow = tuple[str, dict[str, Any]]
"""A row's location (`FILE:LINE`, or `FILE, row N`, counted from 1) and the row."""
_PARQUET = b"PAR1"


def read_content(path: Path) -> bytes:
    """A file's content; a `.gz` file is decompressed. Raises DataError."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path}: can't be read ({reason}); expected a JSONL file, plain or .gz") from None


def _missing(path: Path) -> DataError:
    near = [p.name for p in path.parent.iterdir() if p.is_dir() or _is_data(p)] if path.parent.is_dir() else []
    close = closest(path.name, near)
    hint = f"; did you mean '{close}'?" if close else ""
    return DataError(f"{path}: no such file; expected a file of preference pairs (JSONL, JSON or Parquet){hint}")


def _is_data(path: Path) -> bool:
    return {".jsonl", ".json", ".parquet"} & set(path.suffixes[-2:]) != set()


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
        with path.open("rb") as file:
            return file.read(len(_PARQUET)) == _PARQUET
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); expected a file") from None


def matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files, sorted by name, that match the first pattern with any match. Raises DataError if there is none."""
    for pattern in patterns:
        files = sorted(p for p in folder.glob(pattern) if p.is_file())
        if files:
            return files
    contents = ", ".join(sorted(p.name for p in folder.iterdir()))[:200] or "nothing"
    raise DataError(f"{folder}: has no {' or '.join(patterns)}; it has {contents}")


def file_rows(files: Sequence[Path]) -> Iterator[LocatedRow]:
    """The rows of all files in order, each in any of the supported formats. Raises DataError."""
    for path in files:
        yield from _parquet_rows(path) if is_parquet(path) else json_rows(read_content(path), str(path))


def json_rows(content: bytes, name: str) -> Iterator[LocatedRow]:
    """The objects of a JSONL file or of a JSON list. `name`: the file's name in errors. Raises DataError."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    if content.lstrip()[:1] == b"[":
        yield from _list_rows(content, name)
        return
    # Not splitlines(): JSON strings may contain U+2028 and other line separators.
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield f"{name}:{number}", _object(_json(line, f"{name}:{number}"), f"{name}:{number}")


def _list_rows(content: bytes, name: str) -> Iterator[LocatedRow]:
    rows = _json(content, name, "a JSON list of objects, or one object per line")
    for number, row in enumerate(rows, start=1):
        place = f"{name}, row {number}"
        yield place, _object(row, place)


def _json(content: bytes, place: str, expected: str = "one JSON object per line") -> Any:
    try:
        return json.loads(content.decode())
    except UnicodeDecodeError:
        raise DataError(f"{place}: not UTF-8; expected {expected}, in UTF-8") from None
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) and error.lineno > 1 else ""
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise DataError(f"{place}: not JSON ({reason}{where}); expected {expected}") from None


def _object(row: Any, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{place}: expected a JSON object, got {kind(row)}")
    return row


def _parquet_rows(path: Path) -> Iterator[LocatedRow]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (OSError, pyarrow.ArrowException) as error:
        summary = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: not a readable Parquet file ({summary}); write it again") from None
