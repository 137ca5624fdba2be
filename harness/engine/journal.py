"""Journals keep expensive results (replies, samples, scores) under a key of what they depend on, for reuse.

A journal is a JSONL file, one record per line (see `harness.engine.journal_line`), to which lines are only ever
appended. A key is the SHA-256 of what the record depends on. Several threads, processes and machines may share a
journal. A line that was torn by a kill, or changed afterwards, is named in a warning and left out; the others count.
"""

import hashlib
import logging
import os
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from harness.engine.batches import Batches
from harness.engine.durable import make_folder, sync
from harness.engine.journal_line import decode, encode, simple_key
from harness.engine.lease import Lease
from harness.engine.store import canonical_json
from harness.errors import StoreError
from harness.printable import printable
from harness.types import Record

_log = logging.getLogger("harness")
R = TypeVar("R", bound=Record)

POLL = 0.02
"""Seconds between two attempts to write while another process does: it needs some milliseconds."""
OVERLAP = 64
"""Bytes before the new ones that are read again, to notice that a journal was shortened or edited in between."""
PIECE = 4_000_000
"""Bytes that are read at a time."""
NAMED = 20
"""The number of damaged lines that a warning lists."""


def content_key(content: Any) -> str:
    """SHA-256 (hex) of JSON-able data."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


class Journal(Generic[R]):
    """Records of one type by key, in the file `path`; `column` names a line's record. `wanted`: the only keys whose
    records are kept in memory, and may be appended; None: all. It may grow until the file is first read.

    The records appended in one call form a batch, which is stored completely or, after a kill, not at all: samples
    computed in different batches differ by rounding, so a resumed run must form the same batches. The file's lock is
    held while a batch is written.
    """

    def __init__(self, path: Path, record: type[R], column: str = "record", wanted: Set[str] | None = None) -> None:
        self.path = path
        self._record = record
        self._wanted = wanted
        self._column = column
        self._writing = Lease(path)
        self._threads = threading.RLock()
        self._rows: dict[str, R] = {}
        self._batches = Batches[R]()
        self._unsaved: dict[str, R] = {}  # records that the file had before it was shortened
        self._read_to = 0  # byte offset after the last line that was read
        self._before = b""  # the last bytes before that offset
        self._line = 1  # the number of the line at that offset

    def rows(self) -> Mapping[str, R]:
        """All current records by key. It is a live view: don't iterate over it while other threads append. An
        incomplete batch is ignored. Raises StoreError if the file can't be read."""
        with self._threads:
            try:
                handle = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                if self._read_to:
                    self._start_again(())
            else:
                try:
                    self._read(handle)
                finally:
                    os.close(handle)
        return MappingProxyType(self._rows)

    def append(self, rows: Iterable[tuple[str, R]], together: bool = True) -> None:
        """Write records and wait until they are on disk. An existing key keeps its record. `together`: whether they
        form a batch; if not, each of them counts by itself, also after a kill in between."""
        rows = list(rows)
        with self._threads:
            if all(key in self._rows for key, _ in rows) and not self._unsaved:
                return
            make_folder(self.path.parent)
            self._writing.acquire(lambda: _log.info("%s: waiting for another process", self.path), POLL)
            try:
                self._append(rows, together)
            finally:
                self._writing.release()

    def _append(self, rows: list[tuple[str, R]], together: bool) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(self.path, flags, 0o666)
        try:
            empty, torn = self._read(handle)
            new = dict(self._unsaved)
            for key, record in rows:
                if key not in self._rows:
                    new.setdefault(key, record)
            if not new:
                return
            # What a killed writer has left stays; a torn line gets its line break.
            dead = self._batches.unfinished
            lines = b"".join(self._lines(new, together and len(new) > 1, dead))
            ended = not torn and self._before[-1:] in (b"", b"\n")
            data = lines if ended else b"\n" + lines
            left = memoryview(data)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        if empty:
            sync(self.path.parent)
        self._rows |= new
        self._batches.drop(dead)
        self._unsaved = {}
        if not torn:  # otherwise all of it is read again, to name the torn line
            self._read_to += len(data)
            self._before = (self._before + data)[-OVERLAP:]
            self._line += data.count(b"\n")

    def _lines(self, rows: Mapping[str, R], together: bool, drop: list[str]) -> Iterator[bytes]:
        # By its keys, so that a resumed run writes the same bytes.
        batch = content_key(list(rows))[:16] if together else ""
        for number, (key, record) in enumerate(rows.items(), 1):
            line: dict[str, Any] = {"key": key, self._column: record.model_dump(mode="json")}
            if together:
                line |= {"batch": batch} | ({"more": True} if number < len(rows) else {})
            yield encode(line | ({"drop": drop} if drop and number == 1 else {}))

    def _read(self, handle: int) -> tuple[bool, bool]:
        """Read what was added since the last call. Returns whether the file is empty, and whether it ends in a line
        that isn't whole: another process is writing it, or was killed while it did."""
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise StoreError(f"{self.path}: not a regular file; expected a journal: move it away")
        if os.pread(handle, len(self._before), self._read_to - len(self._before)) == self._before:
            torn = self._take(_pieces(handle, self._read_to))
        else:
            torn = self._start_again(_pieces(handle, 0))
        return not self._read_to and not torn, torn

    def _start_again(self, pieces: Iterable[bytes]) -> bool:
        """Read a file that was shortened, edited or replaced. Records that it no longer has are kept, and are written
        again with the next ones."""
        _log.warning("%s: was changed while in use; it is read again", self.path)
        self._read_to, self._before, self._line = 0, b"", 1
        self._batches = Batches()
        earlier, self._rows = self._rows, {}
        torn = self._take(pieces)
        self._unsaved = {key: record for key, record in earlier.items() if key not in self._rows}
        earlier.update({key: record for key, record in self._rows.items() if key not in earlier})
        self._rows = earlier  # the object that `rows` has given out
        return torn

    def _take(self, pieces: Iterable[bytes]) -> bool:
        """Read lines; returns whether the last one isn't whole."""
        damaged: list[int] = []
        last = b""
        for piece in pieces:
            *lines, last = (last + piece).split(b"\n")
            for line in lines:
                if line and self._take_line(line):
                    damaged.append(self._line)
                self._line += 1
            self._has_read(b"\n".join([*lines, b""]))
        # A last line without its line break may be whole nevertheless.
        torn = bool(last) and self._take_line(last) is not None
        if damaged and not last and damaged[-1] == self._line - 1:
            self._count(self._batches.end_damaged())
        if not torn:
            self._has_read(last)
        if damaged:
            self._name(damaged)
        return torn

    def _has_read(self, data: bytes) -> None:
        self._read_to += len(data)
        self._before = (self._before + data)[-OVERLAP:]

    def _take_line(self, line: bytes) -> str | None:
        """Read one line; returns what is wrong with it."""
        if self._wanted is not None and self._is_unwanted(line):
            return None
        row = decode(line)
        if isinstance(row, str):
            return row
        try:
            record = self._record.model_validate(row[self._column])
        except (ValidationError, KeyError, ValueError, TypeError, OverflowError, RecursionError):
            return "has no valid record"
        if self._batches.is_simple(row):
            self._count([(row["key"], record)])
        else:
            self._count(self._batches.take(row, row["key"], record))
        return None

    def _is_unwanted(self, line: bytes) -> bool:
        """Whether a line is of no interest, as can be told fast."""
        key = simple_key(line)
        return key is not None and self._batches.all_closed and key not in (self._wanted or ())

    def _count(self, rows: Iterable[tuple[str, R]]) -> None:
        for key, record in rows:
            if self._wanted is None or key in self._wanted:
                self._rows.setdefault(key, record)

    def _name(self, damaged: list[int]) -> None:
        """Warn of damaged lines, once per process."""
        new = [number for number in damaged if (str(self.path), number) not in _named]
        _named.update((str(self.path), number) for number in new)
        if new:
            listed = ", ".join(map(str, new[:NAMED])) + (", …" if len(new) > NAMED else "")
            _log.warning(
                "%s, line %s: cut short or changed; left out, and computed again where needed (harness cache verify "
                "says more)",
                printable(str(self.path)),
                listed,
            )


def _pieces(handle: int, offset: int) -> Iterator[bytes]:
    """A file's bytes from an offset to its end."""
    while piece := os.pread(handle, PIECE, offset):
        yield piece
        offset += len(piece)


_named: set[tuple[str, int]] = set()
