"""The first calls of a stage: few go ahead until one is answered, and if none can be, the stage ends there."""

import re
import threading
import time
from collections import Counter

from harness.servers.pace import POLL, Stopped

FIRST_CALLS = 10
"""Calls that are made before one of them is answered as it should be."""
SAME_REFUSALS = 5
"""So many refusals in the same words, and none answered, are about all calls."""
HEAD_START = 0.5
"""Seconds that the first call is ahead of the next ones, which then know what the server refuses: it does so fast."""


class Opening:
    """Callers `enter` before a call, and then say how it went: `answered`, or `failed`, for a reason."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = False
        self._allowed = FIRST_CALLS
        self._started = 0
        self._began = 0.0
        self._reasons: Counter[str] = Counter()

    def enter(self, stop: threading.Event) -> None:
        """Wait until a call may start. Raises Stopped."""
        with self._changed:
            while not self._may_start():
                if stop.is_set():
                    raise Stopped
                self._changed.wait(POLL)
            self._started += 1

    def _may_start(self) -> bool:
        if self._open:
            return True
        if not self._started:
            self._began = time.monotonic()
            return True
        ahead = not self._reasons and time.monotonic() < self._began + HEAD_START
        return self._started < self._allowed and not ahead

    @property
    def is_open(self) -> bool:
        """Whether a call was answered as it should be."""
        return self._open

    def answered(self) -> None:
        """A call was answered as it should be: all others may start."""
        if not self._open:
            with self._changed:
                self._open = True
                self._changed.notify_all()

    def passed(self) -> None:
        """A call ended in a way that says nothing of others."""
        with self._changed:
            self._allowed += 1
            self._changed.notify_all()

    def failed(self, reason: str, *, refused: bool) -> bool:
        """A call was not answered, or not as it should be. Whether that is so often the case that no further call makes
        sense. `refused`: by the server, in these words."""
        with self._changed:
            if self._open:
                return False
            self._reasons[_likened(reason)] += 1
            self._changed.notify_all()
            same = self._reasons[_likened(reason)]
            return (refused and same >= SAME_REFUSALS) or self._reasons.total() >= FIRST_CALLS

    @property
    def failures(self) -> int:
        """Calls that failed before any was answered."""
        return self._reasons.total()


def _likened(reason: str) -> str:
    """A message without what differs between calls: numbers, and names of requests."""
    return re.sub(r"[0-9a-f]{8,}|[0-9]+", "#", reason.lower())[:300]
