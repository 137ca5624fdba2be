"""Starts programs in a clean environment, watched so that they end with this process."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from harness.children import watch
from harness.printable import is_secret

Process = subprocess.Popen[str]
ROOT = Path(__file__).parents[2]
"""The folder that `harness` is imported from."""
DROPPED = ("PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONBREAKPOINT", "PYTHONPATH")
HUB = ("HF_", "HUGGING")
"""How the variables with the secrets of the Hugging Face hub begin."""


def environment(needs: Sequence[str] = ()) -> dict[str, str]:
    """This process's environment without secrets, but those whose names begin with one of `needs`, and without the
    working folder on the path of Python or of programs: a stranger's `json.py` or `git` in it would be run."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in DROPPED and (not is_secret(name) or name.startswith(tuple(needs)))
    }
    if path := _python_path():
        kept["PYTHONPATH"] = path
    folders = [folder for folder in kept.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(folder)]
    return kept | {"PYTHONSAFEPATH": "1", "PATH": os.pathsep.join(folders)}


@contextmanager
def in_environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """While open, this process's environment variables have these values, for libraries and programs that take them
    from nowhere else; None: they are not set."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _python_path() -> str:
    """PYTHONPATH with absolute folders, without the working folder; and the harness's, if it isn't installed."""
    own = str(ROOT)
    folders = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    folders = [folder for folder in folders if folder == own or folder != os.getcwd()]
    if ROOT.name not in ("site-packages", "dist-packages"):
        folders.append(own)
    return os.pathsep.join(dict.fromkeys(folders))


def start(command: Sequence[str], errors: IO[str] | int, needs: Sequence[str] = ()) -> "subprocess.Popen[str]":
    """Start a program with a session of its own; its output is a pipe, and `errors` gets its standard error."""
    return watched(command, errors, environment(needs))


def watched(
    command: Sequence[str], errors: IO[str] | int, variables: Mapping[str, str], output: IO[str] | int = subprocess.PIPE
) -> "subprocess.Popen[str]":
    """Start a program with just these environment variables. Its output goes to `output`, its errors to `errors`."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", watch.__file__, str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        text=True,
        errors="replace",
        env=variables,
        start_new_session=True,
    )


def guard(processes: Iterable[int]) -> "subprocess.Popen[str]":
    """Start a guard that kills these processes, which a library has started, once this one is gone; to be stopped when
    they have ended."""
    names = [name for process in processes if (name := watch.named(process))]
    return watched(["--guard", *names], subprocess.DEVNULL, environment())


def descendants() -> set[int]:
    """Ids of the processes that this one has started, directly or not. Empty without /proc."""
    return set(watch.descendants(os.getpid()))


def run(command: Sequence[str], seconds: float, needs: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end. Raises TimeoutError after so many seconds. A program that doesn't exist exits with
    127."""
    process = start(command, subprocess.PIPE, needs)
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} has not ended after {seconds:g} s") from None
    finally:
        stop(process)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def stop(process: "subprocess.Popen[str]") -> None:
    """Ask a program that still runs to end, and wait until it has, with all that it has started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=watch.PATIENCE + 4 * watch.GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
