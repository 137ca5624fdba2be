"""A lock on a file that ends with the process that holds it. Other machines may not see it."""

import fcntl
import os
import time
from pathlib import Path


class FileLock:
    """The flock of a file, which is created."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def acquire(self, timeout: float) -> None:
        """Wait for at most so many seconds. Raises BlockingIOError while another process, or another instance in this
        one, has it."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        deadline = time.monotonic() + timeout
        while self._handle is None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._handle = handle
            except OSError as error:
                if not isinstance(error, BlockingIOError) or time.monotonic() >= deadline:
                    os.close(handle)
                    raise
                time.sleep(0.02)

    def release(self) -> None:
        if self._handle is not None:
            fcntl.flock(self._handle, fcntl.LOCK_UN)  # also for a forked process, which has the handle too
            os.close(self._handle)
            self._handle = None
