"""Runs a program, and ends it with everything that it has started once the parent is gone, however that ended.

A script by itself, which needs nothing but the standard library: `python -I -S watch.py PARENT COMMAND...`. It exits as
the program does. SIGTERM and SIGINT go to the program, which gets PATIENCE to end. With `--guard PROCESS...` in the
place of a command it kills these processes, which a library has started, once the parent is gone.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

PATIENCE = 25.0
"""Seconds that a program has to end after it was asked to."""
GRACE = 3.0
"""The same for what is left when the parent is gone, or when the program has ended."""
LOOK = 0.5
"""Seconds between two looks at the parent."""
_PARENT_DEATH_SIGNAL, _CHILD_SUBREAPER = 1, 36  # of Linux's prctl


def main(parent: int, command: list[str]) -> NoReturn:
    # What the program's children leave behind becomes a child of this process, where it is found.
    _prctl(_CHILD_SUBREAPER, 1)
    wakes, waker = os.pipe()
    for end in (wakes, waker):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(waker)
    asked: list[float] = []
    program = _program(command)

    def ask(signum: int, frame: FrameType | None) -> None:
        asked.append(time.monotonic())
        os.kill(program, signal.SIGTERM)

    signal.signal(signal.SIGCHLD, lambda signum, frame: None)
    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    status = None
    while status is None and os.getppid() == parent and not (asked and time.monotonic() > asked[0] + PATIENCE):
        status = _reaped(program)
        if status is None:
            select.select([wakes], [], [], LOOK)
            _drain(wakes)
    end_all(GRACE if status is not None or not asked else 0)
    _exit_like(status)


def guard(parent: int, processes: list[str]) -> None:
    """Wait until the parent is gone, and kill the processes that `named` gave these names."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    for name in processes:
        process = int(name.partition(":")[0])
        if named(process) == name:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def named(process: int) -> str:
    """A process by its id and the time of its start, since ids are used again; empty if it has ended."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return f"{process}:{file.read().rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return ""


def _program(command: list[str]) -> int:
    """Start the program; returns its process id."""
    child = os.fork()
    if child:
        return child
    _prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)  # should this process be killed
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
    os._exit(127)


def _reaped(program: int) -> int | None:
    """Collect ended processes; returns the program's wait status if it is among them."""
    status = None
    while True:
        try:
            ended, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if ended == 0:
            return status
        if ended == program:
            status = code


def _drain(wakes: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(wakes, 512):
            pass


def end_all(grace: float) -> None:
    """Ask all descendants to end, and kill those that haven't after so many seconds."""
    deadline = time.monotonic() + grace
    asked: set[int] = set()
    while left := set(descendants(os.getpid())):
        kill = time.monotonic() > deadline
        for process in left if kill else left - asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL if kill else signal.SIGTERM)
        asked |= left
        if time.monotonic() > deadline + GRACE:
            return  # not even SIGKILL ends a process that waits for its disk
        time.sleep(0.02)
        _reaped(0)


def descendants(of: int) -> Iterator[int]:
    """Ids of the running processes that a process has started, directly or not. Empty without /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
            except (OSError, ValueError):
                continue  # has just ended
            if state != "Z":
                children.setdefault(int(parent), []).append(int(name))
    waiting = [of]
    while waiting:
        started = children.get(waiting.pop(), [])
        yield from started
        waiting += started


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _exit_like(status: int | None) -> NoReturn:
    if status is not None and os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    number = os.WTERMSIG(status) if status is not None else signal.SIGKILL
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    os._exit(1)


if __name__ == "__main__":
    _parent, _command = int(sys.argv[1]), sys.argv[2:]
    if _command[0] == "--guard":
        guard(_parent, _command[1:])
    else:
        main(_parent, _command)
