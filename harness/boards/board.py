"""A board: its rows, and the comparisons that follow from their outcomes."""

from functools import cached_property

from pydantic import Field

from harness.boards.comparisons import comparisons_of
from harness.boards.entry import Entry
from harness.stats.paired import Comparison
from harness.types import Record


class Board(Record):
    """A board, as read from its files. `generated`: when it was written (UTC, ISO 8601); None for a bare folder of
    entries. `listed`: the comparisons in its file, which may be anything; see `comparisons`."""

    name: str
    generated: str | None
    entries: tuple[Entry, ...]
    listed: dict[str, tuple[Comparison, ...]] = Field(default_factory=dict)

    @cached_property
    def comparisons(self) -> dict[str, tuple[Comparison, ...]]:
        """Pairs of rows, by metric; with many rows only some pairs. The listed ones, if they follow from the rows'
        outcomes; else they are computed."""
        return comparisons_of(self.entries, self.listed)
