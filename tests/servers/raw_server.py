"""A server on 127.0.0.1 below HTTP: the test writes every byte, at its own pace."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

Write = Callable[[bytes], None]
Answer = Callable[[bytes, Write], None]
"""Answers one request (its head and body) through a function that sends bytes."""


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole HTTP reply."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class RawServer:
    """`requests`: head and body of each, in order of arrival. `failures`: of `answer`, besides OSError, with which it
    closes the connection. `tls`: wraps each connection."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self.failures: list[Exception] = []
        self._answer = answer
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._socket.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/v1"

    @contextlib.contextmanager
    def running(self) -> "Iterator[RawServer]":
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield self
        finally:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(20)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                data = b""
                while True:
                    while not _is_whole(data):
                        if not (piece := connection.recv(65536)):
                            return
                        data += piece
                    self.requests.append(data)
                    try:
                        self._answer(data, connection.sendall)
                    except OSError:
                        return
                    except Exception as error:
                        self.failures.append(error)
                        return
                    data = b""


def _is_whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(end) and len(body) >= int(lengths[0] if lengths else 0)
