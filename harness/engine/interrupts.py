"""Ctrl-C ends a run after the current batch, a second one at once. The same goes for SIGTERM, which schedulers send."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

GRACE = 30.0
"""Seconds after which a run ends even if its batch isn't finished: schedulers kill it about then."""

_stop_requested = threading.Event()


@contextmanager
def gently(tell: Callable[[str], None], *, last: bool = False) -> Iterator[None]:
    """While open, the first signal is only recorded, for `check`, and `tell` gets a line for the user. `last`: the
    process ends with the run, so it ignores further signals after it was asked to stop. Outside of the main thread
    signals can't be handled, and nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request_stop(signum: int, frame: FrameType | None) -> None:
        if _stop_requested.is_set():
            raise KeyboardInterrupt
        _stop_requested.set()
        signal.setitimer(signal.ITIMER_REAL, GRACE)
        tell("stopping after this batch; interrupt again to stop at once")

    def give_up(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    _stop_requested.clear()
    handlers = {signal.SIGINT: request_stop, signal.SIGTERM: request_stop, signal.SIGALRM: give_up}
    # Leave ignored signals alone (a shell's background job ignores Ctrl-C), and those handled outside of Python (None),
    # whose handler could not be restored.
    previous = {
        s: signal.signal(s, h) for s, h in handlers.items() if signal.getsignal(s) not in (signal.SIG_IGN, None)
    }
    try:
        yield
    finally:
        if _stop_requested.is_set():
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_IGN if last and _stop_requested.is_set() else handler)
        _stop_requested.clear()


def is_requested() -> bool:
    """Whether the run was asked to stop."""
    return _stop_requested.is_set()


def check() -> None:
    """To be called at the end of a batch. Raises KeyboardInterrupt in the main thread if the run was asked to stop."""
    if _stop_requested.is_set() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


def to_stderr(text: str) -> None:
    """Write a line to stderr from a signal handler, without taking a lock that the interrupted code may hold."""
    sys.stderr.write(f"harness: {text}\n")
    sys.stderr.flush()
