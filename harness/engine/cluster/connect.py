"""Connects to a Ray cluster, or starts one on this machine for the duration of a run."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.errors import HarnessError

LOCAL = "local"
CONNECT = 10.0
"""Seconds within which a cluster must answer."""


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The ray module, connected to the cluster at `address` while open; for `local`, a cluster is started and stopped.
    Raises HarnessError if ray is not installed or nothing answers."""
    if address != LOCAL:
        _answers(address)
        if _only_here(address):
            # Read by Ray on import; without it Ray looks for the cluster at this machine's outward address.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError:
        raise HarnessError("--ray needs the package ray: pip install 'preference-harness[ray]'") from None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if address == LOCAL:
        ray.init(include_dashboard=False, _node_ip_address="127.0.0.1", num_cpus=os.cpu_count(), **quiet)
    else:
        environment = {"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}} if os.environ.get("PYTHONPATH") else None
        try:
            ray.init(address=address, runtime_env=environment, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise _no_cluster(address, reason) from None
    try:
        yield ray
    finally:
        ray.shutdown()


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
