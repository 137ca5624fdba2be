"""Limits the number of concurrent calls to a server. All callers of a server in this process share its `Pace`.

Additive increase, multiplicative decrease, as in TCP (Chiu and Jain, 1989): when a server reports overload, the limit
is halved; then it grows by one for every round of answered calls. A Retry-After holds back all callers, not only the
one that received it.
"""

import math
import threading
import time
from functools import cache

POLL = 0.2
"""Seconds after which a waiting caller checks again whether to stop."""


class Stopped(Exception):
    """The caller's run has ended; no further calls may be made."""


class HeldTooLong(Exception):
    """The server asks for a longer pause than the caller is willing to wait. `seconds`: what is left of it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the server asks to wait {seconds:.0f} s")
        self.seconds = seconds


class Pace:
    """The rate control of one server. `limit`: concurrent calls; infinite until the server first reports overload
    (callers also limit their own concurrency)."""

    def __init__(self) -> None:
        self.limit = math.inf
        self._changed = threading.Condition()
        self._in_flight = 0
        self._held_until = 0.0
        self._last_cut = 0.0
        self._overloaded_since: float | None = None
        self._last_answer = 0.0

    def enter(self, stop: threading.Event, longest: float) -> float:
        """Wait until a call may start. Returns its start time, to be passed to `leave`. Raises Stopped, or HeldTooLong
        for a pause of more than `longest` seconds."""
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
        """The call has ended: `answered`, `overloaded`, or neither (any other failure, which doesn't affect the
        limit)."""
        with self._changed:
            now = time.monotonic()
            if overloaded:
                if began >= self._last_cut:  # calls in flight at the last cut report the load before it
                    self.limit = max(1.0, min(self.limit, self._in_flight) / 2)
                    self._last_cut = now
                self._held_until = max(self._held_until, now + retry_after)
                self._overloaded_since = self._overloaded_since or now
            elif answered:
                self.limit += 1 / self.limit
                self._overloaded_since = None
                self._last_answer = now
            self._in_flight -= 1
            self._changed.notify(2)

    def answered_since(self, moment: float) -> bool:
        """Whether the server has answered a call since a moment of the monotonic clock."""
        with self._changed:
            return self._last_answer > moment

    def overloaded_for(self) -> float:
        """Seconds since the server reported overload, without any answered call in between."""
        with self._changed:
            return 0.0 if self._overloaded_since is None else time.monotonic() - self._overloaded_since


@cache
def pace_of(server: str) -> Pace:
    """The shared pace of the server at an address."""
    return Pace()
