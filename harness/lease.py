"""Locks that a dead holder can't keep, on one machine or on a file system that several share.

A holder flocks `NAME.lock` for as long as it lives, and writes `NAME.lease`: which kernel it runs on, a number of its
own, and a count that it raises every few seconds. On one kernel the flock alone decides: it is gone with its process.
Where flocks of another machine are not seen, the lease is watched, and taken over once its count has stood still for
PATIENCE seconds by the watcher's own steady clock. No time of day is looked at, so that no clock can be wrong.
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
"""How often in PATIENCE a holder says that it lives."""


@cache
def kernel() -> str:
    """What tells this running machine from others and from itself before it was started anew."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


class Lease:
    """One holder at a time of `path` (without its suffix). For one thread at a time."""

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self.nonce = secrets.token_hex(8)
        self._lease = path.with_name(f"{path.name}.lease")
        self._flock = FileLock(path.with_name(f"{path.name}.lock"))
        self._patience = patience
        self._seen: tuple[str, float] | None = None  # another kernel's lease as it was, and since when
        self._beating: threading.Event | None = None

    def try_acquire(self) -> bool:
        """Hold it, if nobody does. Asked again and again, it finds a holder on another machine dead."""
        try:
            self._flock.acquire(timeout=0)
        except Timeout:
            return False
        taken_over = False
        if (other := self._read()) and other.get("kernel") != kernel():
            now, shown = time.monotonic(), json.dumps(other, sort_keys=True)
            if self._seen is None or self._seen[0] != shown:
                self._seen = (shown, now)
            if now - self._seen[1] < self._patience:
                self._flock.release()
                return False
            taken_over = True
        self._write(0)
        if taken_over:
            # Somebody else may have waited as long: the last one to write has it.
            time.sleep(min(1.0, self._patience / 10))
            if not self.held():
                self._flock.release()
                return False
        self._beating = threading.Event()
        threading.Thread(target=self._beat, args=(self._beating,), daemon=True, name="lease").start()
        return True

    def acquire(self, waiting: Callable[[], None] = lambda: None) -> None:
        """Hold it, as soon as nobody else does; `waiting` is called once, if that is not now."""
        told = False
        while not self.try_acquire():
            if not told:
                waiting()
                told = True
            time.sleep(POLL)

    def held(self) -> bool:
        """Whether the lease is still ours: a machine that slept for long may have lost it."""
        return (self._read() or {}).get("nonce") == self.nonce

    def check(self) -> None:
        """Raises StoreError where the lease is no longer ours."""
        if not self.held():
            raise StoreError(f"{self._lease}: lost to another run while this one stood still; run again")

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
            found = json.loads(self._lease.read_text())
        except (OSError, ValueError):
            return None  # none there, or one that a full disk has cut
        return found if isinstance(found, dict) else None

    def _write(self, beat: int) -> None:
        scratch = self._lease.with_name(f"{self._lease.name}.{self.nonce}")
        lease = {"kernel": kernel(), "nonce": self.nonce, "beat": beat, "host": platform.node(), "pid": os.getpid()}
        scratch.write_text(json.dumps(lease))
        os.replace(scratch, self._lease)

    def _beat(self, stopped: threading.Event) -> None:
        beat = 0
        while not stopped.wait(self._patience / BEATS):
            if not self.held():
                return  # whoever holds it now must not be overwritten
            beat += 1
            with contextlib.suppress(OSError):  # a disk that is full now may not be at the next beat
                self._write(beat)
