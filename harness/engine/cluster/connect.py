"""Connects to a Ray cluster, or starts one on this machine for the duration of a run."""

import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.metadata import version
from typing import Any

from harness.children.start import descendants, environment, guard, in_environment, stop
from harness.errors import HarnessError
from harness.printable import first_line

LOCAL = "local"
CONNECT = 10.0
"""Seconds within which a cluster must answer."""
LEAST = (2, 52)
"""The first version of Ray whose clusters can ask for a token. Without one, all who reach a cluster can run code."""
HERE = "127.0.0.1"
ONLY_HERE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Read by Ray on import; otherwise it looks for this machine's outward address, and listens on all of them."""
SIGNALS = {"RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1"}
"""Read by Ray on import; otherwise it answers SIGTERM with a trace of its own."""


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The ray module, connected to the cluster at `address` while open; for `local`, a cluster is started and stopped.
    Raises HarnessError if ray is not installed or too old, or if nothing answers."""
    if address != LOCAL:
        _answers(address)
    with ExitStack() as stack:
        stack.enter_context(in_environment(SIGNALS))
        if address == LOCAL or _only_here(address):
            stack.enter_context(in_environment(ONLY_HERE))
        if address == LOCAL:
            stack.enter_context(in_environment(_of_local_cluster()))
        ray = _ray_for_local_cluster() if address == LOCAL else _ray()
        stack.callback(ray.shutdown)
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
        # Ray puts the working folder first on its workers' Python path, where a stranger's `json.py` would be run.
        earlier = descendants()
        with (
            _working_in(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))),
            _signals_kept(),
        ):
            if address == LOCAL:
                _start(ray, quiet)
            else:
                _connect(ray, address, quiet)
        # Most of Ray's processes end with this one, but those that find no one to tell so wait for long.
        stack.callback(stop, guard(descendants() - earlier))
        yield ray


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise HarnessError("--ray needs the package ray: pip install 'preference-harness[ray]'") from None
    least = ".".join(map(str, LEAST))
    if tuple(int(part) for part in version("ray").split(".")[:2] if part.isdigit()) < LEAST:
        raise HarnessError(f"--ray needs ray {least} or later, whose clusters ask for a token; got {version('ray')}")
    return ray


@cache
def _ray_for_local_cluster() -> Any:
    """Ray, imported with the settings that it reads then."""
    if "ray" in sys.modules:
        raise HarnessError(
            "--ray local: ray was imported before, with settings that let others reach the cluster; "
            "use a new process, or the address of a cluster"
        )
    return _ray()


def _start(ray: Any, quiet: Mapping[str, Any]) -> None:
    """Start a cluster on this machine, which nobody else can reach."""
    try:
        ray.init(LOCAL, include_dashboard=False, _node_ip_address=HERE, num_cpus=os.cpu_count(), **quiet)
    except Exception as error:  # Ray raises a bare one where a node takes too long to start
        raise HarnessError(
            f"--ray local: the cluster has not started ({first_line(error)}); run without --ray"
        ) from None
    addresses = {node["NodeManagerAddress"] for node in ray.nodes()}
    if addresses != {HERE}:
        raise HarnessError(
            f"--ray local: Ray listens on {', '.join(sorted(addresses))}, where others can reach it; expected {HERE}: "
            "run without --ray, and report the version of Ray"
        )


def _connect(ray: Any, address: str, quiet: Mapping[str, Any]) -> None:
    path = environment()["PYTHONPATH"] if os.environ.get("PYTHONPATH") else None
    try:
        ray.init(address=address, runtime_env={"env_vars": {"PYTHONPATH": path}} if path else None, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_cluster(address, first_line(error)) from None


def _of_local_cluster() -> dict[str, str | None]:
    """Environment variables for a cluster of our own: clean, with a token, and whatever cluster RAY_ADDRESS names."""
    clean = environment()
    own = {"RAY_ADDRESS": None, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token(), "RAY_USAGE_STATS_ENABLED": "0"}
    return {**own, **{name: clean.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONSTARTUP", "PATH")}}


@cache
def _token() -> str:
    """One per process, since Ray reads it once."""
    return secrets.token_hex(32)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Signals are handled afterwards as they were before: Ray's node takes SIGTERM for itself, and a run would not end
    after its batch."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one outside of Python can't be put back
                signal.signal(number, handler)


@contextmanager
def _working_in(folder: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _answers(address: str) -> None:
    """Raises HarnessError if nothing listens at the address. (Ray itself would retry for a minute.)"""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdecimal():
        raise _no_cluster(address, "expected HOST:PORT, auto or local")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or error) from None
    except OverflowError as error:  # not a valid port number
        raise _no_cluster(address, error) from None


def _only_here(address: str) -> bool:
    """Whether a cluster listens only on this machine's loopback address."""
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost", "::1"):
        return False
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
            outward.connect(("192.0.2.1", 9))  # sends nothing, only selects the local address (RFC 5737)
            local_address = outward.getsockname()[0]
        socket.create_connection((local_address, int(port)), timeout=1).close()
    except OSError:
        return True
    return False


def _no_cluster(address: str, reason: object) -> HarnessError:
    return HarnessError(f"--ray {address}: no Ray cluster to connect to ({reason}); start one, or use local")
