"""Connections within the limits of a call: its deadline and the number of bytes that the server may send.

Both are enforced where bytes arrive, below HTTP: headers, chunks, interim replies and TLS handshakes that drip or never
end are covered too.
"""

import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import Any

import httpcore

from harness.servers.hosts import is_loopback

LONGEST_CONNECT = 5.0
"""Seconds to wait for a connection to one address; a packet that is lost is sent again after one and after three."""
LONGEST_SEARCH = 8.0
"""Seconds to wait for a host's addresses, and for a connection to one of several."""
TLS_RECORDS = (b"\x15\x03", b"\x16\x03")
"""How TLS's alerts and handshakes begin."""
_SLICE = 64 << 10
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}
"""OpenSSL's reasons for what is not TLS; they differ by version."""


class BrokenReply(ValueError):
    """A reply that is too large or can't be unpacked; it may have been charged."""


class NoConnection(httpcore.ConnectError):
    """Why there is no connection, in words for the user. `permanent`: trying again won't help."""

    def __init__(self, text: str, *, permanent: bool = False) -> None:
        super().__init__(text)
        self.permanent = permanent


_large = threading.Lock()


class Limits(threading.local):
    """The limits of the call that this thread is making. Large replies are received and read one at a time, since one
    takes up to 20 times its size meanwhile: `take_large` waits for that, `end` ends it."""

    until = math.inf
    bytes_left = 0
    is_large = False

    def take_large(self) -> None:
        if not self.is_large:
            if not _large.acquire(timeout=self.remaining()):
                raise httpcore.ReadTimeout
            self.is_large = True

    def end(self) -> None:
        if self.is_large:
            self.is_large = False
            _large.release()

    def remaining(self, longest: float = 86_400.0) -> float:
        """Seconds left, at most `longest`. Raises httpcore.ReadTimeout when there are none."""
        seconds = min(longest, self.until - time.monotonic())
        if seconds <= 0:
            raise httpcore.ReadTimeout
        return seconds


limits = Limits()


class _Stream(httpcore.NetworkStream):
    """A connection within the limits of the call."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._began = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._inner.read(max_bytes, limits.remaining())
        is_plain = self.get_extra_info("ssl_object") is None
        if not self._began and is_plain and data.startswith(TLS_RECORDS):
            raise NoConnection("the server speaks HTTPS: write https:// in base_url", permanent=True)
        self._began = True
        limits.bytes_left -= len(data)
        if limits.bytes_left < 0:
            raise BrokenReply("the server's reply doesn't end, or is too large")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _SLICE):
            self._inner.write(buffer[start : start + _SLICE], limits.remaining())

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            return _Stream(self._inner.start_tls(ssl_context, server_hostname, limits.remaining()))
        except httpcore.ConnectError as error:
            raise _tls_problem(error.__cause__) from None

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class Network(httpcore.NetworkBackend):
    """Opens connections within the limits of the call, and says why one can't be opened."""

    def __init__(self, advice: str) -> None:
        self._inner = httpcore.SyncBackend()
        self._advice = advice

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        problem: BaseException | None = None
        addresses, began = self._addresses(host, port), time.monotonic()
        for address in addresses:
            try:
                seconds = limits.remaining(LONGEST_CONNECT)
                if problem is not None and time.monotonic() - began > LONGEST_SEARCH - LONGEST_CONNECT:
                    break
                return _Stream(self._inner.connect_tcp(address, port, seconds, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error.__cause__
        if isinstance(problem, ConnectionRefusedError):
            # On this machine there is no load balancer or firewall that may let the next one in.
            text = f"connection refused by {place}: start the server, or {self._advice}"
            raise NoConnection(text, permanent=is_loopback(host))
        if isinstance(problem, TimeoutError):
            raise NoConnection(
                f"no connection to {place} within {LONGEST_CONNECT:.0f} s: {self._advice} and the network"
            )
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise NoConnection(f"no connection to {place} ({reason}): {self._advice} and the network")

    def _addresses(self, host: str, port: int) -> list[str]:
        """The host's addresses in order of preference. Raises NoConnection for a name without any."""
        try:
            found = _found(host, port)
        except UnicodeError:
            raise NoConnection(f"{host[:100]} is not a host's name: {self._advice}", permanent=True) from None
        except socket.gaierror as error:
            text = f"the name {host} can't be resolved ({error.strerror}): {self._advice} and the network"
            raise NoConnection(text, permanent=error.errno != socket.EAI_AGAIN) from None
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _found(host: str, port: int) -> list[Any]:
    """`socket.getaddrinfo` within LONGEST_SEARCH: a resolver that doesn't answer is asked for half a minute. Raises
    what it does, or socket.gaierror."""
    if re.fullmatch(r"[0-9.]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*", host) or is_loopback(host):
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    answer: SimpleQueue[list[Any] | Exception] = SimpleQueue()

    def look() -> None:
        try:
            answer.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            answer.put(error)

    threading.Thread(target=look, daemon=True, name="resolve").start()
    try:
        found = answer.get(timeout=limits.remaining(LONGEST_SEARCH))
    except Empty:
        raise socket.gaierror(socket.EAI_AGAIN, "the resolver doesn't answer") from None
    if isinstance(found, Exception):
        raise found
    return found


def _tls_problem(error: BaseException | None) -> NoConnection:
    if isinstance(error, ssl.SSLCertVerificationError):
        return NoConnection(
            f"the server's TLS certificate isn't trusted ({error.verify_message}): check base_url, or set "
            "SSL_CERT_FILE to the certificate of the authority that signed it",
            permanent=True,
        )
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        return NoConnection("the server speaks no TLS: write http:// in base_url", permanent=True)
    reason = (error.reason if isinstance(error, ssl.SSLError) else None) or str(error)
    return NoConnection(f"the TLS handshake failed ({reason}): check base_url")
