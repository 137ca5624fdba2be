"""Ctrl-C ends a run after its batch; afterwards, and in other threads, signals are as they were."""

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from harness.engine.interrupts import check, gently

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = handlers()
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)  # type: ignore[arg-type]


def interrupted(*, last: bool) -> list[str]:
    """What is told of a signal that comes in the middle of a batch."""
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt), gently(lines.append, last=last):
        signalled(check)
    return lines


def signalled(then: Callable[[], object]) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    then()


def test_the_first_signal_waits_for_the_batch_and_the_handlers_come_back() -> None:
    before = handlers()
    assert interrupted(last=False) == ["stopping after this batch; interrupt again to stop at once"]
    assert handlers() == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    check()  # nothing is left to stop


def test_a_process_that_ends_with_its_run_ignores_further_signals() -> None:
    interrupted(last=True)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_the_second_signal_stops_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), gently(lambda line: None):
        signalled(lambda: signalled(lambda: pytest.fail("the second signal was only noted")))


def test_a_timer_of_the_process_goes_on() -> None:
    signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        with gently(lambda line: None):
            pass
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 900
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def test_another_thread_changes_nothing() -> None:
    before, seen = handlers(), []

    def run() -> None:
        with gently(lambda line: None):
            seen.append(handlers())
            check()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]
