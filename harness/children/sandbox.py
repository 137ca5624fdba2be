"""Runs programs that nobody has read: a model's code. What contains them is in `harness.children.inside`."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from harness.children import inside
from harness.errors import ModelError

GRACE = 10.0
"""Seconds that the supervisor has beyond a program's own limit before it is killed."""


class Limits(NamedTuple):
    """Of one program. `cpu_seconds`: of its processor time; `seconds`: of the clock, for one that sleeps."""

    cpu_seconds: int = 10
    seconds: float = 40.0
    memory_bytes: int = 2 << 30
    file_bytes: int = 8 << 20


USUAL = Limits()


class Outcome(NamedTuple):
    """What came of a program. `reason`: why it did not pass, in one line."""

    passed: bool
    reason: str | None = None


def check_sandbox() -> None:
    """Raise ModelError where programs can't be contained."""
    if not sys.platform.startswith("linux") or platform.machine() not in inside.ARCHITECTURES:
        found = f"{sys.platform} on {platform.machine()}"
        raise ModelError(f"a model's code can be contained on Linux (x86_64, aarch64) only, and this is {found}")
    tried = run_program("import socket\ntry:\n    socket.socket()\nexcept PermissionError:\n    pass\nelse:\n    1 / 0")
    if not tried.passed:
        raise ModelError(f"a model's code can't be contained on this machine ({tried.reason}); leave the benchmark out")


def run_programs(programs: Sequence[str], limits: Limits = USUAL) -> list[Outcome]:
    """Run each of them by itself, as many at a time as there are processors; outcomes in order."""
    with ThreadPoolExecutor(max(1, min(8, len(os.sched_getaffinity(0))))) as pool:
        return list(pool.map(lambda program: run_program(program, limits), programs))


def run_program(program: str, limits: Limits = USUAL) -> Outcome:
    """Run a program in a process of its own, in a temporary folder, without network, secrets or other processes."""
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        command = [sys.executable, "-I", "-S", "-B", inside.__file__, folder, json.dumps(limits._asdict())]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"LANG": "C.UTF-8"},
            start_new_session=True,
        )
        try:
            written, _ = process.communicate(program.encode(errors="replace"), timeout=limits.seconds + GRACE)
        except subprocess.TimeoutExpired:
            return Outcome(False, "time limit")
        finally:
            _end(process)
    try:
        said = str(json.loads(written)["said"])
    except (ValueError, KeyError):
        return Outcome(False, f"the sandbox ended with exit code {process.returncode}")
    return Outcome(True) if said == "passed" else Outcome(False, " ".join(said.split()))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the supervisor, with which the program ends, whatever is left of them."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
