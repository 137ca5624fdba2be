"""Journals: what was paid for once, a reply, a sample or a score, is kept and found again by what it depends on.

A journal is an append-only JSONL file, one record a line: `{"key": ..., "record": {...}}`. A key is the SHA-256 of
what the record depends on. Several processes and threads may share a journal.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from filelock import FileLock
from pydantic import ValidationError

from harness.errors import StoreError
from harness.store import canonical_json
from harness.types import Record

R = TypeVar("R", bound=Record)


def content_key(content: Any) -> str:
    """SHA-256 (hex) of JSON-able data."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


class Journal(Generic[R]):
    """Records of one type by key, in the file `path`; `column` names a line's record.

    What is appended in one call is there as a whole or, after a kill, not at all: samples that were computed in one
    batch differ by rounding from those of another batch, so an interrupted run must form the same batches afterwards.
    Every line of a batch but its last has `"more": true`.
    """

    def __init__(self, path: Path, record: type[R], column: str = "record") -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._record = record
        self._column = column
        self._writers = FileLock(f"{path}.lock")
        self._threads = threading.RLock()
        self._rows: dict[str, R] = {}
        self._read_to = 0  # the end of the last whole batch that was read
        self._line = 0

    def rows(self) -> Mapping[str, R]:
        """Everything that is there now, by key: a live view, to be looked up rather than walked through while other
        threads append. A torn last line or batch counts as not there. Raises StoreError naming a broken line."""
        with self._threads:
            self._read()
        return MappingProxyType(self._rows)

    def append(self, rows: Iterable[tuple[str, R]]) -> None:
        """Write records and wait until they are on disk. A key that is there already keeps its record."""
        with self._threads, self._writers:
            self._read()
            new: dict[str, R] = {}
            for key, record in rows:
                if key not in self._rows:
                    new.setdefault(key, record)
            if not new:
                return
            data = "".join(self._lines(new)).encode()
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                # Every writer holds the lock: what stands behind the last whole batch is what a killed one has left.
                os.ftruncate(handle, self._read_to)
                left = memoryview(data)
                while left:
                    left = left[os.write(handle, left) :]
                os.fsync(handle)
            finally:
                os.close(handle)
            self._rows |= new
            self._read_to += len(data)
            self._line += len(new)

    def _lines(self, rows: Mapping[str, R]) -> Iterable[str]:
        for number, (key, record) in enumerate(rows.items(), 1):
            line = {"key": key, self._column: record.model_dump(mode="json")}
            yield canonical_json(line if number == len(rows) else line | {"more": True}) + "\n"

    def _read(self) -> None:
        """Take in the whole batches that were added since."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            lines = file.read().split(b"\n")[:-1]
        batch: list[tuple[str, R]] = []
        size = 0
        for line in lines:
            key, record, more = self._parsed(line, self._line + len(batch) + 1)
            batch.append((key, record))
            size += len(line) + 1
            if more:
                continue
            for key, record in batch:
                self._rows.setdefault(key, record)
            self._read_to += size
            self._line += len(batch)
            batch, size = [], 0

    def _parsed(self, line: bytes, number: int) -> tuple[str, R, bool]:
        try:
            row = json.loads(line)
            return row["key"], self._record.model_validate(row[self._column]), bool(row.get("more"))
        except (ValueError, KeyError, TypeError, ValidationError):
            where = f"{self.path}, line {number}"
            raise StoreError(f"{where}: not a journal row; delete the line to have it made again") from None
