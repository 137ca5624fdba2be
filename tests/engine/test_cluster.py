"""A cluster on this machine: nobody else reaches it, it runs nothing of the working folder, and it leaves nothing."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.children.test_start import running

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

DRIVER = """
import json, os, sys
from harness.engine.cluster.connect import connected

def seen():
    import trl_like  # of the user's own PYTHONPATH
    return os.environ.get("RAY_ADDRESS"), bool(os.environ["RAY_AUTH_TOKEN"])

with connected("local") as ray:
    print(json.dumps([ray.get(ray.remote(seen).remote()), ray.get_runtime_context().gcs_address]), flush=True)
    sys.stdin.readline()
print(json.dumps([os.environ.get(name) for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE")]))
"""


def driver(folder: Path, **more: str) -> "subprocess.Popen[str]":
    """Keeps its cluster until it reads a line."""
    (folder / "lib").mkdir()
    (folder / "lib" / "trl_like.py").write_text("")
    for name in ("json", "torch", "pydantic", "psutil", "harness"):  # a stranger's
        (folder / f"{name}.py").write_text(f"open({str(folder / 'ran')!r}, 'a').write({name!r})\n")
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'lib'}:{ROOT}", "HOME": str(folder), **more}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", DRIVER],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def listening(processes: set[int]) -> set[str]:
    """Addresses (hexadecimal, as in /proc/net/tcp) that processes listen on."""
    sockets = set()
    for process in processes:
        for handle in Path(f"/proc/{process}/fd").iterdir():
            target = os.readlink(handle)
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return {line[1].partition(":")[0] for line in lines if line[3] == "0A" and line[9] in sockets}


def refused(address: str, folder: Path) -> bool:
    """Whether the cluster says so to a driver with another token, which then tries again for long."""
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    stranger = subprocess.Popen(
        [sys.executable, "-c", f"import ray; ray.init({address!r})"],
        env={**os.environ, "HOME": str(folder / "nobody"), **own},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert stranger.stderr is not None
        return any("InvalidAuthToken" in line for line in stranger.stderr)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_cluster_of_our_own_is_closed_and_clean(tmp_path: Path) -> None:
    """With the address of another cluster, which is gone, in the environment."""
    process = driver(tmp_path, RAY_ADDRESS="127.0.0.1:6399", RAY_AUTH_MODE="disabled")
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith('[[null, true], "127.0.0.1:'), process.communicate()[1]
    address = first.split('"')[1]
    session = {*running(address), *running("ray::")}
    loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
    assert listening(session) <= loopback
    assert listening(session)
    assert refused(address, tmp_path)
    rest, errors = process.communicate("\n", timeout=60)
    assert rest == '["127.0.0.1:6399", null, "disabled"]\n', errors
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / ".ray").exists()  # no token is left in the user's home


def test_nothing_is_left_of_a_killed_driver(tmp_path: Path) -> None:
    process = driver(tmp_path)
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("["), process.communicate()[1]
    address = first.split('"')[1]
    # What Ray has renamed can't be told from another session's by its command line, but by its environment.
    token = next(
        part for part in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0") if part.startswith(b"HOME=")
    )

    def left() -> list[int]:
        pids = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and token in (folder / "environ").read_bytes():
                    pids.append(int(folder.name))
            except OSError:
                continue
        return pids

    assert len(left()) >= 5
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left() == []
    assert not running(address)
