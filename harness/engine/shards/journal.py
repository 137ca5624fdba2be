"""The journal of a shard: a file of its own, to which what it computes is added, and what other runs have stored.

Runs share journals, whatever number of shards each of them had. So a shard also reads the files of those that may have
rows in common with it: `NAME.jsonl`, of all rows, `NAME-0.jsonl` and `NAME-01.jsonl` for the shard `01`, and
`NAME-010.jsonl` and all others whose bits begin with its own. It keeps only what it asks for in memory.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from harness.engine.journal import Journal
from harness.engine.shards.partition import related
from harness.types import Record

R = TypeVar("R", bound=Record)


def files_of(path: Path, bits: str = "") -> list[Path]:
    """The files of the journal at `path` that may have rows of the shard `bits`; the files of larger shards first."""
    named = re.compile(rf"{re.escape(path.stem)}-([01]+){re.escape(path.suffix)}")
    matches = [match for other in path.parent.glob(f"{path.stem}-*") if (match := named.fullmatch(other.name))]
    names = sorted((match[1] for match in matches if related(match[1], bits)), key=lambda name: (len(name), name))
    return [path, *(_file(path, name) for name in names)]


def _file(path: Path, bits: str) -> Path:
    return path.with_name(f"{path.stem}-{bits}{path.suffix}") if bits else path


class ShardJournal(Generic[R]):
    """The journal at `path` as the shard `bits` sees it; without bits, as a run does that has one shard."""

    def __init__(self, path: Path, bits: str, record: type[R], column: str = "record") -> None:
        self._whole, self._bits = path, bits
        self._record, self._column = record, column
        self.path = _file(path, bits)
        self._asked: set[str] = set()
        self._others: dict[str, R] = {}
        self._own = Journal(self.path, record, column, self._asked)

    def rows(self, keys: Collection[str]) -> dict[str, R]:
        """Those of the records with these keys that are stored, by key. Raises StoreError if a file can't be read."""
        if new := set(keys) - self._asked:
            self._asked |= new
            self._own = Journal(self.path, self._record, self._column, self._asked)
            for journal in self._journals():
                for key, row in journal.rows().items():
                    if key in new:
                        self._others.setdefault(key, row)
        own = self._own.rows()
        found = ((key, self._others.get(key) or own.get(key)) for key in keys)
        return {key: row for key, row in found if row is not None}

    def keys(self) -> set[str]:
        """All keys, also of other shards."""
        paths = files_of(self._whole)
        return {key for path in paths for key in Journal(path, self._record, self._column).rows()}

    def append(self, rows: Iterable[tuple[str, R]], together: bool = True) -> None:
        """As `Journal.append`; what another file has is not written again."""
        self._own.append([(key, row) for key, row in rows if key not in self._others], together)

    def _journals(self) -> Iterator[Journal[R]]:
        """The files with what this shard may have, in one order for all runs: of what two have, the first counts."""
        for path in files_of(self._whole, self._bits):
            if path == self.path:
                yield self._own
            else:
                yield Journal(path, self._record, self._column, self._asked)
