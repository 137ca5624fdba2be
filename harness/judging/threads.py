"""Many concurrent requests that are stopped together."""

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from harness.engine import interrupts
from harness.servers.pace import POLL, Stopped


def in_threads(work: Callable[[Sequence[str]], None], keys: Sequence[str], threads: int, stop: threading.Event) -> None:
    """Run `work([key])` for every key, in up to `threads` threads. The first error, or Ctrl-C, sets `stop` and is
    raised once all calls under way have ended; a second Ctrl-C doesn't wait for them."""
    queue: SimpleQueue[str] = SimpleQueue()
    for key in keys:
        queue.put(key)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            while not stop.is_set():
                work([queue.get_nowait()])
        except (Empty, Stopped):
            return
        except BaseException as error:
            errors.append(error)
            stop.set()

    workers = [threading.Thread(target=run, name="judge", daemon=True) for _ in range(min(threads, len(keys)))]
    try:
        for thread in workers:
            thread.start()
        for thread in workers:
            while thread.is_alive():
                thread.join(POLL)
                interrupts.check()
    except BaseException:
        stop.set()
        for thread in workers:
            if thread.ident is not None:
                thread.join()
        raise
    if errors:
        raise errors[0]
