"""The rows of a stage, dealt to shards on disk, and the shards' results in the rows' order.

Memory is flat in the number of rows: four bytes for each, and a few megabytes of lines. All files are below the folder
of the artifact that is being built, which all nodes see, and gone before it is published.
"""

import os
import secrets
import shutil
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from harness.engine.shards.partition import bits_of, depth_of, hash_of
from harness.engine.store import line_of
from harness.errors import StoreError
from harness.types import Record

R = TypeVar("R", bound=Record)
HELD = 32_000_000
"""Bytes of lines that are held in memory while they are dealt or merged."""
LEAST = 16_384
"""Bytes of a shard's results that are read at a time, at least."""


class Shard(NamedTuple):
    """One shard's rows in a file, and the place for its results. `bits`: its name; `size`: the number of its rows."""

    folder: Path
    bits: str
    size: int

    @property
    def path(self) -> Path:
        return self.folder / f"rows-{self.bits}"

    @property
    def results(self) -> Path:
        return self.folder / f"results-{self.bits}"

    def rows(self, row: type[R]) -> Iterator[R]:
        """The shard's rows, in their order."""
        with self.path.open("rb") as file:
            yield from map(row.model_validate_json, file)

    def write(self, results: Iterable[Record]) -> None:
        """Write a result for each row, in order. Nothing is seen of it before it is whole, and a shard that is computed
        twice, since its worker was thought to be lost, has one of them."""
        scratch = self.results.with_name(f"{self.results.name}.{secrets.token_hex(4)}")
        count = 0
        with scratch.open("wb") as file:
            for result in results:
                file.write(line_of(result))
                count += 1
        if count != self.size:
            raise StoreError(f"{self.path}: {count:,} results for {self.size:,} rows; expected one for each")
        os.replace(scratch, self.results)


class Dealt:
    """A stage's rows in shards. `shards`: those that have any, in order."""

    def __init__(self, folder: Path, hashes: "array[int]", depth: int) -> None:
        self._hashes, self._depth = hashes, depth
        counts = Counter(bits_of(hashed, depth) for hashed in hashes)
        self.shards = [Shard(folder, bits, counts[bits]) for bits in sorted(counts)]

    def __len__(self) -> int:
        return len(self._hashes)

    def results(self, record: type[R]) -> Iterator[R]:
        """The results of all shards, in the order of the rows."""
        size = max(LEAST, HELD // max(1, len(self.shards)))
        lines = {shard.bits: _lines(shard.results, size) for shard in self.shards}
        for hashed in self._hashes:
            yield record.model_validate_json(next(lines[bits_of(hashed, self._depth)]))


@contextmanager
def dealt(rows: Iterable[tuple[str, Record]], folder: Path, workers: int, *, together: bool = False) -> Iterator[Dealt]:
    """While open, the rows, (id, row) each, are in shards below `folder`. `workers`: how many may share them.
    `together`: all are in one shard, however many they are."""
    spool = folder / ".shards"
    spool.mkdir()
    try:
        hashes, whole = array("I"), spool / "rows-"
        with whole.open("wb") as file:
            for name, row in rows:
                hashes.append(hash_of(name))
                file.write(line_of(row))
        if depth := 0 if together else depth_of(hashes, workers):
            _deal(whole, hashes, depth)
        yield Dealt(spool, hashes, depth)
    finally:
        shutil.rmtree(spool)


def _deal(whole: Path, hashes: "array[int]", depth: int) -> None:
    """Copy each line of a file to its shard's."""
    held: dict[str, list[bytes]] = {}
    size = 0

    def flush() -> None:
        for bits, lines in held.items():
            with whole.with_name(f"rows-{bits}").open("ab") as file:
                file.writelines(lines)
        held.clear()

    with whole.open("rb") as file:
        for hashed, line in zip(hashes, file, strict=True):
            held.setdefault(bits_of(hashed, depth), []).append(line)
            size += len(line)
            if size >= HELD:
                flush()
                size = 0
    flush()
    whole.unlink()


def _lines(path: Path, size: int) -> Iterator[bytes]:
    """A file's lines, of which about `size` bytes are read at a time: so many files can't be open at once."""
    offset, lines = 0, deque[bytes]()
    while True:
        with path.open("rb") as file:
            file.seek(offset)
            lines.extend(file.readlines(size))
            offset = file.tell()
        if not lines:
            return
        while lines:
            yield lines.popleft()
