"""What was computed from a folder's files, kept until they change: hashing or comparing gigabytes takes time."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.files import cache_root

SETTLED = 3.0
"""Seconds since a file's last change after which nothing that is computed from it is in doubt. A file that changes
again within a tick of the clock (up to 2 s on some file systems) looks unchanged."""


def cached(kind: str, folder: Path, files: Iterable[Path], compute: Callable[[], str]) -> str:
    """`compute()`, kept in the cache folder under `kind` for as long as the files keep their sizes, times, numbers and
    devices. The time of a file's last change of any kind (ctime) can't be set back, unlike its modification time."""
    before = _stamp(folder, files)
    place = cache_root() / kind / hashlib.sha256(before.encode()).hexdigest()
    with contextlib.suppress(OSError, ValueError):
        return place.read_text()
    value = compute()
    if _settled(files) and _stamp(folder, files) == before:
        with contextlib.suppress(OSError):  # a full or read-only disk: it is computed again next time
            place.parent.mkdir(parents=True, exist_ok=True)
            scratch = place.with_suffix(f".{os.getpid()}")
            scratch.write_text(value)
            os.replace(scratch, place)
    return value


def _stamp(folder: Path, files: Iterable[Path]) -> str:
    facts = []
    for path in files:
        s = path.stat()
        facts.append([path.relative_to(folder).as_posix(), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev])
    return json.dumps([str(folder), facts])


def _settled(files: Iterable[Path]) -> bool:
    return all(path.stat().st_ctime + SETTLED < time.time() for path in files)
