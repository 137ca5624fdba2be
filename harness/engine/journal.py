"""Journals keep expensive results (replies, samples, scores) under a key of what they depend on, for reuse.

A journal is an append-only JSONL file, one record per line: `{"key": ..., "record": {...}}`. A key is the SHA-256 of
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

from harness.engine.store import canonical_json
from harness.errors import StoreError
from harness.types import Record

R = TypeVar("R", bound=Record)


def content_key(content: Any) -> str:
    """SHA-256 (hex) of JSON-able data."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


class Journal(Generic[R]):
    """Records of one type by key, in the file `path`; `column` names a line's record.

    The records appended in one call form a batch, which is stored completely or, after a kill, not at all: samples
    computed in different batches differ by rounding, so a resumed run must form the same batches. Every line of a batch
    except the last has `"more": true`.
    """

    def __init__(self, path: Path, record: type[R], column: str = "record") -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._record = record
        self._column = column
        self._writers = FileLock(f"{path}.lock")
        self._threads = threading.RLock()
        self._rows: dict[str, R] = {}
        self._read_to = 0  # byte offset after the last complete batch
        self._line = 0

    def rows(self) -> Mapping[str, R]:
        """All current records by key. It is a live view: don't iterate over it while other threads append. An
        incomplete last line or batch is ignored. Raises StoreError naming a broken line."""
        with self._threads:
            self._read()
        return MappingProxyType(self._rows)

    def append(self, rows: Iterable[tuple[str, R]]) -> None:
        """Write records and wait until they are on disk. An existing key keeps its record."""
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
                # We hold the lock, so anything after the last complete batch was left by a killed writer.
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
        """Read the complete batches that were added since the last call."""
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
            raise StoreError(f"{where}: not a journal row; delete the line, and it will be computed again") from None
