"""The rows that wait to be decoded."""

import heapq
import threading
from collections import deque
from collections.abc import Callable

from harness.models.decode.rows import Row


class Waiting:
    """Rows that wait for a slot, those with the most tokens first: running out of memory shows at once, and neighbours
    have similar lengths. Rows in a group share their prompt. All methods may be called from any thread.

    `is_long`: whether a row of so many tokens has other rotary factors than shorter ones, and so is decoded apart from
    them (see `harness.models.config.rope_class`); None: none has."""

    def __init__(self, is_long: Callable[[int], bool] | None = None) -> None:
        self._is_long = is_long
        self._changed = threading.Condition()
        self._groups: dict[bool, list[tuple[int, int, list[Row]]]] = {False: [], True: []}
        self._long = is_long is not None
        self._number = 0
        self._in_work = 0
        self._finished: deque[Row] = deque()
        self.workers = 1
        self.stopped = False
        self.error: BaseException | None = None

    def put(self, rows: list[Row]) -> None:
        """Add a group of rows."""
        with self._changed:
            self._number += 1
            heapq.heappush(self._groups[self.is_long(rows[0])], (-rows[0].length, self._number, rows))
            self._changed.notify_all()

    def is_long(self, row: Row) -> bool:
        """Whether the row is one of those that have other rotary factors."""
        return self._is_long is not None and self._is_long(row.length)

    def take(self, most: int) -> list[Row]:
        """At most so many rows of the group that is next; none if nothing waits that may be decoded now."""
        with self._changed:
            if self.stopped:
                return []
            if not self._groups[self._long] and not self._in_work:
                self._long = not self._long
            groups = self._groups[self._long]
            if not groups:
                return []
            length, number, rows = heapq.heappop(groups)
            taken, rest = rows[:most], rows[most:]
            if rest:
                heapq.heappush(groups, (length, number, rest))
            self._in_work += len(taken)
            return taken

    def put_back(self, rows: list[Row]) -> None:
        """Return rows that were taken and not finished."""
        with self._changed:
            self._in_work -= len(rows)
        self.put(rows)

    def finish(self, row: Row) -> None:
        with self._changed:
            self._finished.append(row)
            self._changed.notify_all()

    def finished(self) -> list[Row]:
        """The rows that were finished since the last call. They count as in work until `delivered`."""
        with self._changed:
            rows = list(self._finished)
            self._finished.clear()
            return rows

    def delivered(self, count: int) -> None:
        with self._changed:
            self._in_work -= count
            self._changed.notify_all()

    @property
    def is_done(self) -> bool:
        with self._changed:
            return not self._in_work and not any(self._groups.values())

    def wait(self, seconds: float) -> None:
        """Wait until a row is finished."""
        with self._changed:
            if not self.stopped and not self._finished:
                self._changed.wait(seconds)

    def wait_for_rows(self, seconds: float) -> None:
        """Wait until rows may have been added, or all is done."""
        with self._changed:
            if not self.stopped:
                self._changed.wait(seconds)

    def stop(self, error: BaseException | None = None) -> None:
        with self._changed:
            self.stopped = True
            self.error = self.error or error
            self._changed.notify_all()

    def retire(self) -> bool:
        """Whether a worker may leave the rows to the others: not the last one."""
        with self._changed:
            self.workers -= 1
            return self.workers > 0
