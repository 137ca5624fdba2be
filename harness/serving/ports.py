"""Ports of this machine: one that is free, and who listens on one."""

import os
import socket

from harness.children.watch import descendants

HOST = "127.0.0.1"
_LISTENING = "0A"  # in /proc/net/tcp


def free_port() -> int:
    """A port that nobody listens on. Another program may take it before it is used."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether a connection to a port can be made."""
    try:
        socket.create_connection((HOST, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    except OSError:  # busy
        return True
    return True


def is_of(process: int, port: int) -> bool:
    """Whether a process, or one that it has started, listens on a port: another program that has taken it would answer
    in its place. True where /proc doesn't tell."""
    sockets = _listening(port)
    if not sockets:
        return not os.path.exists("/proc/net/tcp")
    for one in {process, *descendants(process)}:
        try:
            names = os.listdir(f"/proc/{one}/fd")
        except OSError:
            continue  # has just ended
        if any(_target(f"/proc/{one}/fd/{name}") in sockets for name in names):
            return True
    return False


def _listening(port: int) -> set[str]:
    """The sockets that listen on a port, as links to them are named."""
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        found |= {f"socket:[{row[9]}]" for row in rows if row[3] == _LISTENING and row[1].endswith(f":{port:04X}")}
    return found


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
