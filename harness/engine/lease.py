"""Locks that are released when their holder dies, on one machine or on a file system shared by several.

A holder flocks `NAME.lock` for as long as it lives, and creates `NAME.lease`: its kernel's id, a nonce, and a count
that it increments every few seconds. On one kernel the flock alone decides, since it ends with its process. Flocks of
another machine may be invisible. Then the lease is watched, and taken over once its count hasn't changed for PATIENCE
seconds by the watcher's monotonic clock. The time of day is never used, so wrong clocks do no harm. A lease appears by
a hard link and is taken over by a rename, of which only one of several attempts succeeds on any file system.
"""

import contextlib
import errno
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
from typing import Any

from harness.engine.flock import FileLock
from harness.errors import StoreError

PATIENCE = 60.0
POLL = 0.2
BEATS = 4
"""How many times per PATIENCE a holder updates its count."""
NO_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of file systems that have no flocks at all, as NFS without its lock service."""
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
"""Errors of file systems without hard links."""


@cache
def kernel() -> str:
    """An id of this machine's current boot, which differs from other machines and earlier boots."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


_held: set[str] = set()
"""The nonces of this process's leases."""


class Lease:
    """An exclusive lock named `path` (without suffix). An instance must be used by one thread at a time. `also`: more
    fields of the lease, for those who read it (see `holder`)."""

    def __init__(self, path: Path, patience: float = PATIENCE, also: dict[str, Any] | None = None) -> None:
        self.path = path
        self.nonce = secrets.token_hex(8)
        self.patience = patience
        self._lease = path.with_name(f"{path.name}.lease")
        self._scratch = path.with_name(f"{path.name}.lease.{self.nonce}")
        self._flock = FileLock(path.with_name(f"{path.name}.lock"))
        self._flocked = False
        self._since = float("-inf")
        self._also = also or {}
        self._count = 0  # never the same twice, so that two holds of one instance differ for a watcher
        self._seen: tuple[bytes, float] | None = None  # another's lease, and when it was first seen like this
        self._writing = threading.Lock()  # a late beat must not bring a released lease back

    def try_acquire(self) -> bool:
        """Acquire the lock if it is free. Repeated calls detect a dead holder on another machine."""
        try:
            self._flock.acquire(timeout=0)
            self._flocked = True
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
            self._flocked = False
        acquired = False
        _held.add(self.nonce)
        try:
            acquired = self._create() or self._take_over()
        finally:
            if not acquired:
                self._unlock()
        if acquired:
            _beats.add(self)
        return acquired

    def acquire(self, waiting: Callable[[], None] = lambda: None, poll: float = POLL) -> None:
        """Acquire the lock, waiting until it is free. `waiting` is called once if that isn't immediately."""
        notified = False
        while not self.try_acquire():
            if not notified:
                waiting()
                notified = True
            time.sleep(poll)

    def held(self) -> bool:
        """Whether the lease is still ours; it may have been lost while the machine was asleep."""
        return _parsed(self._read()).get("nonce") == self.nonce

    def check(self) -> None:
        """Raises StoreError if the lease is no longer ours."""
        if not self.held():
            raise StoreError(f"{self._lease}: lost to another run while this one was suspended; run again")

    def release(self) -> None:
        _beats.discard(self)
        with self._writing:
            # Within its patience nobody has taken it over.
            if time.monotonic() - self._since < self.patience / 2 or self.held():
                self._lease.unlink(missing_ok=True)
        self._unlock()

    def remove(self) -> None:
        """Remove the lock's file after its release. For names that are used once: others may be waiting with it."""
        self.path.with_name(f"{self.path.name}.lock").unlink(missing_ok=True)

    def beat(self) -> bool:
        """Show other machines that the holder lives. Returns False if the lease is no longer ours."""
        with self._writing:
            if not self.held():
                return False  # don't overwrite the new holder's lease
            with contextlib.suppress(OSError):  # a full disk may have space again at the next beat
                self._write()
                os.replace(self._scratch, self._lease)
            return True

    def __enter__(self) -> "Lease":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _create(self) -> bool:
        """Create the lease; False if there is one."""
        try:
            self._write()
            os.link(self._scratch, self._lease)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return self._create_without_link()
        finally:
            self._scratch.unlink(missing_ok=True)
        self._since = time.monotonic()
        return True

    def _create_without_link(self) -> bool:
        try:
            handle = os.open(self._lease, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(handle, "wb") as file:
            file.write(self._content())
        self._since = time.monotonic()
        return True

    def _take_over(self) -> bool:
        """Take the lock of a holder that is dead; False while it may live, or if another watcher was faster."""
        other = self._read()
        if other is None or not self._is_dead(other):
            return False
        aside = self._lease.with_name(f"{self._scratch.name}.dead")
        try:
            os.rename(self._lease, aside)
        except FileNotFoundError:
            return False
        try:
            if aside.read_bytes() != other:  # another watcher took it over just now: give it back
                with contextlib.suppress(OSError):
                    os.link(aside, self._lease)
                return False
        finally:
            aside.unlink(missing_ok=True)
        return self._create()

    def _is_dead(self, other: bytes) -> bool:
        holder = _parsed(other)
        if not holder:  # cut by a full disk, or another machine is just writing it
            time.sleep(min(0.05, self.patience / 10))
            return self._read() == other
        if self._flocked and holder.get("kernel") == kernel() and holder.get("nonce") not in _held:
            return True
        now = time.monotonic()
        if self._seen is None or self._seen[0] != other:
            self._seen = (other, now)
        return now - self._seen[1] >= self.patience

    def _read(self) -> bytes | None:
        try:
            return self._lease.read_bytes()
        except OSError:
            return None

    def _content(self) -> bytes:
        self._count += 1
        lease = {"kernel": kernel(), "nonce": self.nonce, "beat": self._count, "host": platform.node()}
        return json.dumps(lease | {"pid": os.getpid()} | self._also).encode()

    def _write(self) -> None:
        handle = os.open(self._scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            os.write(handle, self._content())
        finally:
            os.close(handle)

    def _unlock(self) -> None:
        _held.discard(self.nonce)
        if self._flocked:
            self._flock.release()
            self._flocked = False


def _parsed(content: bytes | None) -> dict[str, Any]:
    """The fields of a lease; empty if it is missing or cut."""
    try:
        lease = json.loads(content or b"")
    except ValueError:
        return {}
    return lease if isinstance(lease, dict) else {}


def holder(path: Path) -> dict[str, Any]:
    """The fields of the lease named `path`, dead or alive; empty if there is none or it can't be read."""
    try:
        return _parsed(path.with_name(f"{path.name}.lease").read_bytes())
    except OSError:
        return {}


class _Beats:
    """One thread that renews all leases of this process."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._due: dict[Lease, float] = {}
        self._changed = threading.Condition()
        self._wakes = float("inf")  # when the thread looks again
        self._thread: threading.Thread | None = None

    def add(self, lease: Lease) -> None:
        with self._changed:
            self._due[lease] = due = time.monotonic() + lease.patience / BEATS
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="leases")
                self._thread.start()
            elif due < self._wakes:
                self._changed.notify()

    def discard(self, lease: Lease) -> None:
        with self._changed:
            self._due.pop(lease, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._wakes = min(self._due.values(), default=float("inf"))
                pause = self._wakes - time.monotonic()
                if pause > 0:
                    self._changed.wait(None if pause == float("inf") else pause)
                now = time.monotonic()
                due = [lease for lease, moment in self._due.items() if moment <= now]
            for lease in due:
                alive = lease.beat()
                with self._changed:
                    if not alive:
                        self._due.pop(lease, None)
                    elif lease in self._due:
                        self._due[lease] = time.monotonic() + lease.patience / BEATS


_beats = _Beats()
os.register_at_fork(after_in_child=_beats.forget)  # the leases are the parent's
