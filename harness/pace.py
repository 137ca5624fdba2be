"""How many calls a server is given at once. All callers of one server in this process share its `Pace`.

Additive increase, multiplicative decrease, as in TCP (Chiu and Jain, 1989): a server that says it is overloaded gets
half as many calls at once as it had, then one more for every round that it answers. A Retry-After holds back every
caller, not only the one that was told.
"""

import math
import threading
import time
from functools import cache

POLL = 0.2
"""Seconds between two looks at whether to stop, for callers that wait."""


class Stopped(Exception):
    """The caller's run has ended: no further call is to be made."""


class HeldTooLong(Exception):
    """The server asks for a longer pause than the caller would wait. `seconds`: how long it still is."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the server asks to wait {seconds:.0f} s")
        self.seconds = seconds


class Pace:
    """`limit`: calls at once, infinite until the server first complains; callers bound their own number anyway."""

    def __init__(self) -> None:
        self.limit = math.inf
        self._changed = threading.Condition()
        self._in_flight = 0
        self._held_until = 0.0
        self._last_cut = 0.0
        self._overloaded_since: float | None = None

    def enter(self, stop: threading.Event, longest: float) -> float:
        """Wait for a place; returns when the call began, to be given to `leave`. Raises Stopped, or HeldTooLong for a
        pause of more than `longest` seconds."""
        with self._changed:
            while True:
                if stop.is_set():
                    raise Stopped
                now = time.monotonic()
                held = self._held_until - now
                if held > longest:
                    raise HeldTooLong(held)
                if held <= 0 and self._in_flight + 1 <= self.limit:
                    self._in_flight += 1
                    return now
                self._changed.wait(min(held, POLL) if held > 0 else POLL)

    def leave(self, began: float, *, answered: bool, overloaded: bool = False, retry_after: float = 0.0) -> None:
        """The call has ended: `answered`, `overloaded`, or neither (any other failure, which says nothing)."""
        with self._changed:
            now = time.monotonic()
            if overloaded:
                if began >= self._last_cut:  # calls that were under way at a cut complain of what was before it
                    self.limit = max(1.0, min(self.limit, self._in_flight) / 2)
                    self._last_cut = now
                self._held_until = max(self._held_until, now + retry_after)
                self._overloaded_since = self._overloaded_since or now
            elif answered:
                self.limit += 1 / self.limit
                self._overloaded_since = None
            self._in_flight -= 1
            self._changed.notify(2)

    def overloaded_for(self) -> float:
        """Seconds for which the server has turned callers away without answering anybody."""
        with self._changed:
            return 0.0 if self._overloaded_since is None else time.monotonic() - self._overloaded_since


@cache
def pace_of(server: str) -> Pace:
    """The pace of the server at an address."""
    return Pace()
