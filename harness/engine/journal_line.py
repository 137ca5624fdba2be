"""The lines of a journal: one JSON object each, with a checksum, so that a line that was torn or changed is noticed.

`{"batch": ..., "drop": [...], "key": ..., "more": true, "record": {...}, "sum": ...}`. `batch`, `drop` and `more` are
optional (see `harness.engine.batches`), and `sum` is missing in lines from before it existed.
"""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.engine.batches import Batches
from harness.engine.durable import sync
from harness.engine.lease import Lease
from harness.engine.store import canonical_json
from harness.outside import open_file

MARK = b',"sum":"'
DIGITS = 8
"""Hexadecimal digits of a checksum: the CRC-32 of the line's canonical JSON without `sum`."""
_END = len(MARK) + DIGITS + 2
_SIMPLE = b'{"key":"'
LARGEST = 50_000_000
"""Bytes of the longest line that is read."""


def encode(row: dict[str, Any]) -> bytes:
    """A line with its checksum and its line break."""
    text = canonical_json(row).encode()[:-1]
    return b'%b%b%b"}\n' % (text, MARK, _checksum(text).encode())


def decode(line: bytes) -> dict[str, Any] | str:
    """The object of a line (without its line break), or what is wrong with it."""
    if len(line) > LARGEST:
        return f"has {len(line):,} bytes; expected at most {LARGEST:,}"
    try:
        text = line.decode().strip()
        row, end = _scan(text)
        if end != len(text):
            raise ValueError
    except (ValueError, RecursionError):
        return "is not a whole JSON object: it was cut short or changed"
    if not isinstance(row, dict) or not isinstance(row.get("key"), str):
        return "is not a journal row"
    if "sum" not in row:
        others = row.keys() - {"key", "more"}
        plain = len(others) == 1 and isinstance(row[next(iter(others))], dict)
        return row if plain else "is not a journal row"
    if row["sum"] == _checksum(memoryview(line)[:-_END]) or row["sum"] == _checksum_anew(row):
        return row
    return "doesn't have the content that its checksum was computed from"


def simple_key(line: bytes) -> str | None:
    """The key of a line that was written by itself, in no batch; None for any other line, and for a damaged one that
    shows it. Much faster than `decode`, and less thorough."""
    if line.startswith(_SIMPLE) and line[-_END:].startswith(MARK) and line.endswith(b'"}'):
        return line[len(_SIMPLE) : line.index(b'"', len(_SIMPLE))].decode(errors="replace")
    return None


def journal_damage(path: Path) -> Iterator[tuple[str, bool]]:
    """What is wrong with a journal, line by line, and whether `set_aside` would move the line."""
    seen: dict[str, int] = {}
    batches = Batches[int]()
    try:
        with open_file(path) as file:
            for number, line in enumerate(file, 1):
                row = decode(line.removesuffix(b"\n"))
                if isinstance(row, dict):
                    for key, place in batches.take(row, row["key"], number):
                        if seen.setdefault(key, place) != place:
                            yield f"line {place} has the key of line {seen[key]}; delete one of them", False
                elif line != b"\n":
                    yield f"line {number} {row}; it is left out", True
    except OSError as error:
        yield f"can't be read ({error.strerror}); correct its permissions", False


def set_aside(path: Path) -> int:
    """Move the damaged lines of a journal to `PATH.damaged`; returns their number."""
    with Lease(path):
        with open_file(path) as file:
            lines = [(line, isinstance(decode(line.removesuffix(b"\n")), str)) for line in file if line != b"\n"]
        damaged = [line for line, is_damaged in lines if is_damaged]
        if damaged:
            with path.with_name(f"{path.name}.damaged").open("ab") as file:
                file.writelines(damaged)
                os.fsync(file.fileno())
            rest = path.with_name(f"{path.name}.rest")
            with rest.open("wb") as file:
                file.writelines(line for line, is_damaged in lines if not is_damaged)
                os.fsync(file.fileno())
            os.replace(rest, path)
            sync(path.parent)
    return len(damaged)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


_scan = json.JSONDecoder(parse_constant=_refuse).raw_decode


def _checksum(text: bytes | memoryview) -> str:
    """Of a canonical JSON object without its last brace."""
    return f"{zlib.crc32(b'}', zlib.crc32(text)):08x}"


def _checksum_anew(row: dict[str, Any]) -> str:
    """That of a line which another program has written again, with spaces or other escapes."""
    try:
        return _checksum(canonical_json({name: value for name, value in row.items() if name != "sum"}).encode()[:-1])
    except ValueError:
        return ""
