"""Ctrl-C once ends a run after the batch that it is at, and twice at once. So does SIGTERM, as schedulers send it."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

GRACE = 30.0
"""Seconds after which a run ends that has not come to the end of a batch: schedulers kill it then."""

_asked = threading.Event()


@contextmanager
def gently(tell: Callable[[str], None]) -> Iterator[None]:
    """While open, the first signal is only noted, for `check`; `tell` is told so. For the main thread."""

    def ask(signum: int, frame: FrameType | None) -> None:
        if _asked.is_set():
            raise KeyboardInterrupt
        _asked.set()
        signal.setitimer(signal.ITIMER_REAL, GRACE)
        tell("stopping after this batch; once more stops at once")

    def give_up(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    _asked.clear()
    handlers = {signal.SIGINT: ask, signal.SIGTERM: ask, signal.SIGALRM: give_up}
    # A signal that was ignored (a shell's background job ignores Ctrl-C) stays so.
    before = {s: signal.signal(s, h) for s, h in handlers.items() if signal.getsignal(s) is not signal.SIG_IGN}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            # A run that ends as it was asked to is not to be disturbed in that.
            signal.signal(number, signal.SIG_IGN if _asked.is_set() else handler)
        _asked.clear()


def check() -> None:
    """Called where a batch ends. Raises KeyboardInterrupt, in the main thread, once the run was asked to stop."""
    if _asked.is_set() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


def to_stderr(text: str) -> None:
    """For a signal handler: no lock that the interrupted code may hold."""
    sys.stderr.write(f"harness: {text}\n")
    sys.stderr.flush()
