"""Locks that are released when their holder dies, on one machine or on a file system shared by several.

A holder flocks `NAME.lock` for as long as it lives, and writes `NAME.lease`: its kernel's id, a nonce, and a count that
it increments every few seconds. On one kernel the flock alone decides, since it ends with its process. Flocks of
another machine may be invisible. Then the lease is watched, and taken over once its count hasn't changed for PATIENCE
seconds by the watcher's monotonic clock. The time of day is never used, so wrong clocks do no harm.
"""

import contextlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from harness.errors import StoreError

PATIENCE = 60.0
POLL = 0.2
BEATS = 4
"""How many times per PATIENCE a holder updates its count."""


@cache
def kernel() -> str:
    """An id of this machine's current boot, which differs from other machines and earlier boots."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


class Lease:
    """An exclusive lock named `path` (without suffix). An instance must be used by one thread at a time."""

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self.nonce = secrets.token_hex(8)
        self._lease = path.with_name(f"{path.name}.lease")
        self._flock = FileLock(path.with_name(f"{path.name}.lock"))
        self._patience = patience
        self._seen: tuple[str, float] | None = None  # another kernel's lease, and when it was first seen like this
        self._beating: threading.Event | None = None

    def try_acquire(self) -> bool:
        """Acquire the lock if it is free. Repeated calls detect a dead holder on another machine."""
        try:
            self._flock.acquire(timeout=0)
        except Timeout:
            return False
        taken_over = False
        if (other := self._read()) and other.get("kernel") != kernel():
            now, content = time.monotonic(), json.dumps(other, sort_keys=True)
            if self._seen is None or self._seen[0] != content:
                self._seen = (content, now)
            if now - self._seen[1] < self._patience:
                self._flock.release()
                return False
            taken_over = True
        self._write(0)
        if taken_over:
            # Another watcher may have waited as long: the last one to write holds the lock.
            time.sleep(min(1.0, self._patience / 10))
            if not self.held():
                self._flock.release()
                return False
        self._beating = threading.Event()
        threading.Thread(target=self._beat, args=(self._beating,), daemon=True, name="lease").start()
        return True

    def acquire(self, waiting: Callable[[], None] = lambda: None) -> None:
        """Acquire the lock, waiting until it is free. `waiting` is called once if that isn't immediately."""
        notified = False
        while not self.try_acquire():
            if not notified:
                waiting()
                notified = True
            time.sleep(POLL)

    def held(self) -> bool:
        """Whether the lease is still ours; it may have been lost while the machine was asleep."""
        return (self._read() or {}).get("nonce") == self.nonce

    def check(self) -> None:
        """Raises StoreError if the lease is no longer ours."""
        if not self.held():
            raise StoreError(f"{self._lease}: lost to another run while this one was suspended; run again")

    def release(self) -> None:
        if self._beating:
            self._beating.set()
            self._beating = None
        if self.held():
            self._lease.unlink(missing_ok=True)
        self._flock.release()

    def __enter__(self) -> "Lease":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _read(self) -> dict[str, str] | None:
        try:
            lease = json.loads(self._lease.read_text())
        except (OSError, ValueError):
            return None  # missing, or truncated by a full disk
        return lease if isinstance(lease, dict) else None

    def _write(self, beat: int) -> None:
        scratch = self._lease.with_name(f"{self._lease.name}.{self.nonce}")
        lease = {"kernel": kernel(), "nonce": self.nonce, "beat": beat, "host": platform.node(), "pid": os.getpid()}
        scratch.write_text(json.dumps(lease))
        os.replace(scratch, self._lease)

    def _beat(self, stopped: threading.Event) -> None:
        beat = 0
        while not stopped.wait(self._patience / BEATS):
            if not self.held():
                return  # don't overwrite the new holder's lease
            beat += 1
            with contextlib.suppress(OSError):  # a full disk may have space again at the next beat
                self._write(beat)
