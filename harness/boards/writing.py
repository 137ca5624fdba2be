"""Writes files through no link, whole or not at all, and one process at a time in a folder.

A folder may come from somebody else: `run.log` may be a link to a file of keys, `data` one to another folder, and
`board.md` a FIFO. Whatever is written into a board's folder goes through here, which follows no link and waits for no
FIFO.
"""

import errno
import fcntl
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

from harness.errors import StoreError

LOCK = ".board.lock"
PATIENCE = 60.0
"""Seconds to wait for another process that writes the folder, which takes it a moment."""

_NO_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of file systems without flocks. Files are replaced whole there too, but two boards may mix."""
_STREAMS = (Path("/dev"), Path("/proc/self/fd"))
"""Where a file that the user names may be a terminal or a pipe: `--markdown /dev/stdout`, `--junit >(tee log)`."""
_IN_MEMORY = Path("/dev/shm")
"""Files as anywhere else."""


class _Held(threading.local):
    def __init__(self) -> None:
        self.folders: set[Path] = set()


_held = _Held()


def own_file(folder: Path, name: str) -> Path:
    """The path of a file of a folder; `name` is relative to it. Raises StoreError if the folder, one on the way to the
    file, or the file itself is a symbolic link, or exists and is something else."""
    path, parts = folder, Path(name).parts
    if ".." in parts or Path(name).is_absolute():
        raise StoreError(f"{name!r} is not in {folder}; expected a path in it")
    for part in ("", *parts[:-1]):
        path /= part
        _check(path, "folder")
    _check(path := path / parts[-1], "regular file")
    return path


def _check(path: Path, expected: Literal["folder", "regular file"]) -> None:
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    kinds = {"folder": stat.S_ISDIR, "regular file": stat.S_ISREG, "symbolic link": stat.S_ISLNK, "FIFO": stat.S_ISFIFO}
    kind = next((kind for kind, is_kind in kinds.items() if is_kind(mode)), "device or socket")
    if kind != expected:
        raise StoreError(f"{path} is a {kind}; expected a {expected}: move it away, or name another folder")


def content(path: Path, most: int) -> bytes | None:
    """The content of a regular file of at most `most` bytes; None where there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode) or about.st_size > most:
        os.close(handle)
        return None
    with os.fdopen(handle, "rb") as file:
        return file.read(most)


def replace_files(
    first: Mapping[Path, bytes], remove: Iterable[Path] = (), last: Mapping[Path, bytes] | None = None
) -> None:
    """Replace the files `first`, in order, after all files have been written under temporary names; then remove the
    files `remove`; then replace those of `last`. Paths come from `own_file`. If a file can't be written or
    replaced, nothing has changed. Raises OSError."""
    staged: list[tuple[Path, Path]] = []
    replaced: list[tuple[Path, Path, bool]] = []
    scratches: list[Path] = []

    def scratch_beside(path: Path) -> Path:
        # A name that nobody can foresee: others write beside this process, or a stranger has put a link there.
        scratches.append(path.with_name(f".{secrets.token_hex(8)}.tmp"))
        return scratches[-1]

    def put_in_place(scratch: Path, path: Path) -> None:
        backup = scratch_beside(path)
        replaced.append((path, backup, os.path.lexists(path)))
        with suppress(OSError):  # there is no file, or the file system has no links
            os.link(path, backup, follow_symlinks=False)
        os.replace(scratch, path)

    try:
        for path, data in (*first.items(), *(last or {}).items()):
            path.parent.mkdir(parents=True, exist_ok=True)
            staged.append((scratch := scratch_beside(path), path))
            with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for scratch, path in staged[: len(first)]:
            put_in_place(scratch, path)
        replaced.clear()  # from here on there is no way back
        for path in remove:
            path.unlink(missing_ok=True)
        for scratch, path in staged[len(first) :]:
            put_in_place(scratch, path)
    except BaseException:
        for path, backup, was_there in reversed(replaced):
            with suppress(OSError):
                os.replace(backup, path) if was_there else path.unlink()
        raise
    finally:
        for scratch in scratches:
            scratch.unlink(missing_ok=True)


def replace_link(link: Path, target: str) -> None:
    """Make a symbolic link, whatever link was there: at every moment there is one of them. Raises OSError."""
    if link.is_symlink() and os.readlink(link) == target:
        return
    scratch = link.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        os.symlink(target, scratch, target_is_directory=True)
        os.replace(scratch, link)
    finally:
        scratch.unlink(missing_ok=True)


def remove_link(link: Path) -> None:
    """Remove a symbolic link, and nothing else. Raises OSError."""
    if link.is_symlink():
        link.unlink()


def write_output(path: Path, text: str) -> None:
    """Write a file that the user names, with its folder. Raises StoreError for a link, and OSError."""
    data = text.encode(errors="replace")
    if _is_stream(path):
        path.write_bytes(data)
        return
    _check(path, "regular file")
    try:
        replace_files({path: data})
    except OSError as error:  # of a temporary file, whose name says nothing
        raise OSError(error.errno, error.strerror, str(path)) from error


def append_output(path: Path, text: str) -> None:
    """`write_output`, at the end of the file."""
    data = text.encode(errors="replace")
    if _is_stream(path):
        with path.open("ab") as stream:
            stream.write(data)
        return
    with open_to_append(path) as file:
        file.write(data)


def _is_stream(path: Path) -> bool:
    whole = path.absolute()
    return any(whole.is_relative_to(folder) for folder in _STREAMS) and not whole.is_relative_to(_IN_MEMORY)


def open_to_append(path: Path) -> BinaryIO:
    """A regular file, open for writing at its end. Where it has other names (hard links), it is begun anew, so that
    nothing is written to those. Raises StoreError for a link, a FIFO or a device, and OSError."""
    _check(path, "regular file")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.lstat().st_nlink > 1:
        path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "ab")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """While open, no other process that does the same writes the folder, which is created. A thread may open it again.
    Raises StoreError for a link, and where another process does not end; OSError."""
    key = folder.resolve()  # one folder may have several paths
    if key in _held.folders:
        yield
        return
    lock = own_file(folder, LOCK)
    folder.mkdir(parents=True, exist_ok=True)
    handle = _locked(lock)
    _held.folders.add(key)
    try:
        yield
    finally:
        _held.folders.discard(key)
        lock.unlink(missing_ok=True)  # while it is held: who waits for it sees that it is gone, and creates a new one
        os.close(handle)


def _locked(lock: Path) -> int:
    """A handle of the lock's file, which is locked until the handle is closed or the process ends."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            time.sleep(0.02)
            continue
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                os.close(handle)
                raise
            return handle
        try:
            if os.path.samestat(os.fstat(handle), lock.lstat()):
                return handle
        except FileNotFoundError:
            pass  # its holder has just removed it
        os.close(handle)
    raise StoreError(
        f"{lock.parent} is being written by another process, after {PATIENCE:.0f} s still; try again later"
    )
