"""The HTTP transport of all served components. A server can neither outlive a call's deadline nor fill the memory, and
what prevents a connection is said in words.

The limits are enforced where bytes arrive, below HTTP: headers, chunks, interim replies and TLS handshakes that drip or
never end are covered too. A body is unpacked only up to the same limit. A redirect is followed only to the same origin,
or from http to https at the same host, so that a key never reaches another host.
"""

import os
import ssl
import time
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

from harness.servers.adapting.pauses import HEADERS
from harness.servers.body import LARGEST_REPLY, collected, unpacked
from harness.servers.hosts import is_loopback
from harness.servers.network import BrokenReply, Network, NoConnection, limits
from harness.servers.proxies import proxy_of

LARGEST_HEAD = 1 << 20
"""Bytes of the headers, with those of interim replies."""
LARGEST_ERROR = 64 << 10
"""Bytes kept of the body of an error."""
REDIRECTS = 3
CODING = b"content-encoding"


class Unreachable(httpx.ConnectError):
    """No connection, in words for the user. `permanent`: trying again won't help."""

    def __init__(self, text: str, *, permanent: bool = False) -> None:
        super().__init__(text)
        self.permanent = permanent


class Transport(httpx.BaseTransport):
    """Calls of at most `timeout` seconds each, from the connection to the last byte. `url`: of the server, to choose
    the proxy by. `largest`: bytes of a body."""

    def __init__(self, url: str, timeout: float, largest: int = LARGEST_REPLY) -> None:
        proxy = proxy_of(url)
        options: dict[str, Any] = {
            "ssl_context": None if is_loopback(urlsplit(url).hostname) and url.startswith("http:") else _trusted(),
            "max_connections": None,  # callers limit themselves
            "max_keepalive_connections": 100,
            "keepalive_expiry": 5.0,
            "network_backend": Network(f"check {proxy.variable}" if proxy else "check base_url"),
        }
        self._timeout, self._largest = timeout, largest
        self._by = "the proxy" if proxy else "the server"
        self._pool: httpcore.ConnectionPool
        if proxy is None:
            self._pool = httpcore.ConnectionPool(**options)
        elif proxy.scheme.startswith("socks5"):
            self._pool = httpcore.SOCKSProxy(proxy_url=proxy.address, proxy_auth=proxy.auth, **options)
        else:
            self._pool = httpcore.HTTPProxy(proxy_url=proxy.address, proxy_auth=proxy.auth, **options)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The whole reply. Raises Unreachable, BrokenReply, httpx.ReadTimeout, or another httpx.TransportError for a
        connection that broke."""
        limits.until = time.monotonic() + self._timeout
        url, body = str(request.url), request.read()
        try:
            for _ in range(REDIRECTS + 1):
                status, headers, content = self._send(request, url, body)
                if (target := _redirect(status, headers, url)) is None:
                    break
                url = target
        except NoConnection as error:
            raise Unreachable(str(error), permanent=error.permanent) from None
        except httpcore.ProxyError as error:
            raise Unreachable(f"the proxy refused the connection ({error}): check its address and password") from None
        except httpcore.TimeoutException:
            raise httpx.ReadTimeout(f"no whole reply within {self._timeout:g} s") from None
        except httpcore.RemoteProtocolError as error:
            if "illegal status line" in str(error):  # h11's words
                raise Unreachable(f"{self._by} speaks no HTTP: check base_url", permanent=True) from None
            raise self._broken(error, url, "is no whole HTTP") from None
        except httpcore.LocalProtocolError:
            # Its text repeats the header at fault, which may be the key.
            raise httpx.LocalProtocolError("a header of the request holds a character that HTTP can't send") from None
        except httpcore.NetworkError as error:
            raise self._broken(error, url, "was cut") from None
        if 300 <= status < 400:
            place = headers.get("location", "an unnamed place")[:300]
            content = f"the server redirects to {place}: set base_url to where it answers".encode()
        return httpx.Response(status, headers=_kept(headers), content=content, request=request)

    def _broken(self, error: Exception, url: str, how: str) -> httpx.RemoteProtocolError:
        """The error for a connection that broke; a server of TLS closes one that speaks plain HTTP, or resets it."""
        if limits.bytes_left != LARGEST_HEAD:  # something has arrived
            return httpx.RemoteProtocolError(f"the reply of {self._by} {how} ({error})")
        hint = "" if url.startswith("https:") else "; if it speaks HTTPS, write https:// in base_url"
        return httpx.RemoteProtocolError(f"{self._by} closed the connection without a reply{hint}")

    def _send(self, request: httpx.Request, url: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, unpacked body)."""
        sent = [(name, value) for name, value in request.headers.raw if name.lower() != b"accept-encoding"]
        if urlsplit(url).netloc != request.url.netloc.decode():
            sent = [(name, value) for name, value in sent if name.lower() != b"host"]
        sent.append((b"Accept-Encoding", b"identity"))
        extensions = {"timeout": {"pool": self._timeout}}
        limits.bytes_left = LARGEST_HEAD
        response = self._pool.handle_request(
            httpcore.Request(request.method, url, headers=sent, content=body, extensions=extensions)
        )
        limits.bytes_left = 2 * self._largest  # the sizes of chunks count too
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        with closing(response):
            if response.status >= 300:
                content = _start(response)
            elif int(headers.get("content-length", 0)) > self._largest:
                raise BrokenReply(f"the server's reply has more than {self._largest:,} bytes")
            else:
                whole = collected(response.iter_stream(), self._largest)
                content = unpacked(whole, headers.get("content-encoding", ""), self._largest)
        return response.status, headers, content

    def close(self) -> None:
        self._pool.close()


def _trusted() -> ssl.SSLContext:
    """The system's certificates, or those that SSL_CERT_FILE or SSL_CERT_DIR name; certifi's where there are none."""
    context = ssl.create_default_context()
    if not (os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _start(response: httpcore.Response) -> bytes:
    """The first LARGEST_ERROR bytes of an error's body, unpacked if that much is enough for it."""
    content = b""
    for piece in response.iter_stream():
        content += piece
        if len(content) > LARGEST_ERROR:
            break
    coding = next((value.decode("latin-1") for name, value in response.headers if name.lower() == CODING), "")
    try:
        return unpacked(content, coding)[:LARGEST_ERROR]
    except BrokenReply:
        return b""


def _redirect(status: int, headers: dict[str, str], url: str) -> str | None:
    """Where the same request may go instead: to the same origin, or to https at the same host."""
    if status not in (307, 308) or not headers.get("location"):
        return None
    try:
        old, new = urlsplit(url), urlsplit(str(httpx.URL(url).join(headers["location"])))
        same = (old.scheme, old.hostname, old.port) == (new.scheme, new.hostname, new.port)
    except (ValueError, httpx.InvalidURL):
        return None
    upgraded = (old.scheme, new.scheme) == ("http", "https") and (old.port or 80, new.port or 443) == (80, 443)
    upgraded = upgraded and old.hostname == new.hostname
    return new.geturl() if (same or upgraded) and not new.username else None


def _kept(headers: dict[str, str]) -> dict[str, str]:
    """The headers that are read later, at a bounded length. Cookies and the like have no use here."""
    pauses = {name: headers[name][:100] for name in HEADERS if name in headers}
    kept = {name: pause for name, pause in pauses.items() if pause.isascii() and pause.isprintable()}
    return kept | {"content-type": "text/plain; charset=utf-8"}
