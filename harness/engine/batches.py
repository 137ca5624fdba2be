"""Which records of a journal count: those of whole batches.

The last line of a batch has no `more`. A batch without it was left by a killed writer, and doesn't count, if nothing
follows it or if a later line names it in `drop`, as the next writer's first line does. Otherwise its last line was
deleted or changed later, and the other ones count.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

R = TypeVar("R")
Rows = list[tuple[str, R]]


class Batches(Generic[R]):
    """Collects the lines of a journal in their order."""

    def __init__(self) -> None:
        self._open: dict[str, Rows[R]] = {}
        self._dropped: set[str] = set()
        self._counted: set[str] = set()  # open batches whose lines count

    @property
    def unfinished(self) -> list[str]:
        """The batches that a writer who is alone must name in `drop`."""
        return sorted(self._open.keys() - self._dropped)

    @property
    def all_closed(self) -> bool:
        """Whether no batch is open, so that another line changes nothing but its own key's record."""
        return not self._open

    def is_simple(self, row: Mapping[str, Any]) -> bool:
        """Whether a line's record counts at once, and nothing else does: no batch is open, as is usual."""
        return not self._open and "more" not in row

    def take(self, row: Mapping[str, Any], key: str, record: R) -> Rows[R]:
        """Add a line's record; returns the records that count from now on."""
        # Batches from before checksums have no name: all lines up to the first one without `more`.
        batch = str(row.get("batch", "" if "sum" not in row else key))
        rows = self._settle(batch, row.get("drop", ())) if self._open else []
        if batch in self._open and self._open[batch][0][0] == key:
            del self._open[batch]  # the torn batch is written anew
        if row.get("more") and batch not in self._counted:
            self._open.setdefault(batch, []).append((key, record))
            return rows
        return [*rows, *self._open.pop(batch, []), (key, record)]

    def drop(self, names: Iterable[str]) -> None:
        """Batches that a line names which isn't read."""
        self._dropped.update(names)

    def end_damaged(self) -> Rows[R]:
        """The last line of the file is whole but damaged; returns the records that count from now on."""
        return self._settle(None, ())

    def _settle(self, batch: str | None, dropped: Any) -> Rows[R]:
        """Another line follows the open batches."""
        self.drop(name for name in self._open if name in dropped)
        settled = [name for name in self._open if name != batch and name not in self._dropped]
        self._counted.update(settled)
        return [row for name in settled for row in self._open.pop(name)]
