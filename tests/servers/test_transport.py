"""What a server may do to a call: it costs no more than its time and a bounded memory, and no key leaves its host."""

import gzip
import json
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from harness.components import build
from harness.errors import JudgeError
from harness.servers.body import LARGEST_REPLY
from harness.types import JudgeReply, JudgeRequest, Message
from tests.fake_server import completion
from tests.servers.raw_server import Answer, RawServer, http

GOOD = json.dumps(completion("Rating: [[5]]")).encode()
REQUEST = JudgeRequest(messages=(Message(role="user", content="u"),))


def reply_of(answer: Answer, **fields: Any) -> tuple[JudgeReply, float, int]:
    """The judge's reply, its seconds, and the number of calls."""
    with RawServer(answer).running() as server:
        settings = {"name": "openai", "model": "m", "base_url": server.url, "max_retries": 0, "timeout": 1.0}
        judge = build("judge", settings | fields)
        start = time.monotonic()
        (reply,) = judge.reply([REQUEST])
        return reply, time.monotonic() - start, len(server.requests)


def drip(start: bytes, piece: bytes) -> Answer:
    def answer(request: bytes, write: Callable[[bytes], None]) -> None:
        write(start)
        for _ in range(200):
            write(piece)
            time.sleep(0.05)

    return answer


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
        (CHUNKED, b"1\r\n \r\n"),
        (CHUNKED + b"1;", b"x"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"y"),
        (b"HTTP/1.1 20", b""),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 100000\r\n\r\n", b" "),
    ],
    ids=["body", "chunks", "a chunk's size", "a header", "the status", "interim replies", "an error"],
)
def test_a_server_that_drips_is_left_at_the_deadline(start: bytes, piece: bytes) -> None:
    reply, seconds, _ = reply_of(drip(start, piece), timeout=0.4)
    assert 0.3 < seconds < 4  # of the ten that it would go on for
    assert reply.error == "no whole reply within 0.4 s"
    assert reply.faults == ("time-out",)
    assert reply.transient


def flood(start: bytes, piece: bytes) -> Answer:
    def answer(request: bytes, write: Callable[[bytes], None]) -> None:
        write(start)
        for _ in range(20 * LARGEST_REPLY // len(piece)):
            write(piece)

    return answer


MEBIBYTE = b" " * (1 << 20)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 400000000\r\n\r\n", MEBIBYTE),
        (b"HTTP/1.1 200 OK\r\n\r\n", MEBIBYTE),
        (CHUNKED, b"100000\r\n" + MEBIBYTE + b"\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    ],
    ids=["200 MB", "until it closes", "endless chunks", "endless interim replies"],
)
def test_a_reply_without_end_is_left_at_the_limit(start: bytes, piece: bytes) -> None:
    reply, seconds, _ = reply_of(flood(start, piece), timeout=20)
    assert seconds < 15
    assert reply.error is not None
    assert "more than 16,777,216 bytes" in reply.error or "doesn't end" in reply.error
    assert (reply.faults, reply.text, reply.transient) == (("broken reply",), "", False)


def test_a_length_beyond_the_limit_is_not_waited_for() -> None:
    def answer(request: bytes, write: Callable[[bytes], None]) -> None:
        write(b"HTTP/1.1 200 OK\r\nContent-Length: 400000000\r\n\r\n")
        time.sleep(2)

    reply, seconds, _ = reply_of(answer, timeout=2)
    assert reply.error == "the server's reply has more than 16,777,216 bytes"
    assert seconds < 1.5


@pytest.mark.parametrize("header", ["X-Long: " + "y" * 200_000, "\r\n".join(f"X-{i}: y" for i in range(20_000))])
def test_headers_are_bounded(header: str) -> None:
    with pytest.raises(JudgeError, match="is no whole HTTP"):
        reply_of(lambda request, write: write(http(GOOD, header)))


def bomb(coding: str) -> bytes:
    packer = zlib.compressobj(9, wbits={"gzip": 31, "deflate": 15}[coding])
    return b"".join([*(packer.compress(MEBIBYTE) for _ in range(64)), packer.flush()])


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (bomb("gzip"), "gzip"),
        (bomb("deflate"), "deflate"),
        (gzip.compress(bomb("gzip")), "gzip, gzip"),
        (GOOD, "gzip"),
        (gzip.compress(GOOD)[:-9], "gzip"),
        (GOOD, "br"),
        (GOOD, "zstd"),
        (GOOD, "rot13"),
    ],
)
def test_a_body_that_does_not_unpack_within_the_limit_is_a_broken_reply(body: bytes, coding: str) -> None:
    reply, _, _ = reply_of(lambda request, write: write(http(body, f"Content-Encoding: {coding}")), timeout=10)
    assert reply.error is not None
    assert any(why in reply.error for why in ("can't be unpacked", "more than 16,777,216 bytes", "expected plain text"))
    assert reply.faults == ("broken reply",)


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (gzip.compress(GOOD), "gzip"),
        (gzip.compress(GOOD), "GZIP"),
        (gzip.compress(GOOD[:90]) + gzip.compress(GOOD[90:]), "x-gzip"),
        (zlib.compress(GOOD), "deflate"),
        (zlib.compress(GOOD)[2:-4], "deflate"),
        (GOOD, "identity"),
        (b"\xef\xbb\xbf" + GOOD, "identity"),
    ],
)
def test_a_packed_reply_is_read(body: bytes, coding: str) -> None:
    reply, _, _ = reply_of(lambda request, write: write(http(body, f"Content-Encoding: {coding}")))
    assert reply.text == "Rating: [[5]]"


def test_plain_text_is_asked_for() -> None:
    with RawServer(lambda request, write: write(http(GOOD))).running() as server:
        build("judge", {"name": "openai", "model": "m", "base_url": server.url}).reply([REQUEST])
    assert server.requests[0].lower().count(b"accept-encoding:") == 1
    assert b"accept-encoding: identity" in server.requests[0].lower()


@pytest.mark.slow  # 5 MB of JSON
def test_a_long_reply_of_a_working_server_is_read() -> None:
    top = [{"token": f" t{i}", "logprob": -float(i + 1), "bytes": [32, 116, 48]} for i in range(20)]
    body = completion("x" * 4096)
    body["choices"][0]["logprobs"] = {"content": [{"token": "x", "logprob": -1.0, "top_logprobs": top}] * 4096}
    data = json.dumps(body).encode()
    assert len(data) > 5_000_000
    reply, _, _ = reply_of(lambda request, write: write(http(data)), timeout=20)
    assert reply.logprobs is not None
    assert len(reply.logprobs) == 20


KEY = "sk-planted-0123456789"


@pytest.mark.parametrize("status", ["300 Many", "301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"])
def test_a_redirect_to_another_place_is_not_followed(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with RawServer(lambda request, write: write(http(GOOD))).running() as other:
        answer = http(b"", f"Location: {other.url}/chat/completions?k={KEY}", status=status)
        with pytest.raises(JudgeError, match="set base_url to where it answers") as error:
            reply_of(lambda request, write: write(answer))
    assert KEY not in str(error.value)
    assert not other.requests


@pytest.mark.parametrize("place", ["/v2/chat/completions", "chat/completions/", "//127.0.0.1:{port}/v2"])
def test_a_redirect_within_the_server_is_followed(place: str) -> None:
    places: list[bytes] = []
    port: list[int] = []

    def answer(request: bytes, write: Callable[[bytes], None]) -> None:
        places.append(request.split(b" ")[1])
        location = place.format(port=port[0])
        write(http(GOOD) if len(places) > 1 else http(b"", f"Location: {location}", status="307 Temporary"))

    with RawServer(answer).running() as server:
        port.append(server.port)
        judge = build("judge", {"name": "openai", "model": "m", "base_url": server.url, "max_retries": 0})
        assert judge.reply([REQUEST])[0].text == "Rating: [[5]]"
    assert len(places) == 2
    assert places[0] != places[1]


def test_a_redirect_with_a_user_is_not_followed() -> None:
    port: list[int] = []

    def answer(request: bytes, write: Callable[[bytes], None]) -> None:
        write(http(b"", f"Location: http://user:word@127.0.0.1:{port[0]}/v2", status="307 Temporary"))

    with RawServer(answer).running() as server:
        port.append(server.port)
        judge = build("judge", {"name": "openai", "model": "m", "base_url": server.url, "max_retries": 0})
        with pytest.raises(JudgeError, match="set base_url to where it answers"):
            judge.reply([REQUEST])
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("place", "asked"),
    [
        ("https://judge.example/v1", [b"POST", b"CONNECT judge.example:443"]),
        ("https://other.example/v1", [b"POST"]),
        ("https://judge.example:8443/v1", [b"POST"]),
        ("http://judge.example:8000/v1", [b"POST"]),
    ],
)
def test_a_redirect_to_https_at_the_same_host_is_followed(
    place: str, asked: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a proxy, which stands for all hosts."""
    answer = http(b"", f"Location: {place}", status="307 Temporary")
    with RawServer(lambda request, write: write(answer)).running() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        settings = {"name": "openai", "model": "m", "base_url": "http://judge.example/v1", "api_key_env": None}
        judge = build("judge", settings | {"max_retries": 0, "timeout": 2})
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(JudgeError):
            judge.reply([REQUEST])
    assert len(proxy.requests) == len(asked)
    assert all(request.startswith(start) for request, start in zip(proxy.requests, asked, strict=True))


def test_a_loop_of_redirects_ends() -> None:
    answer = http(b"", "Location: /v1/chat/completions", status="307 Temporary")
    with pytest.raises(JudgeError, match="HTTP 307"):
        reply_of(lambda request, write: write(answer))


def test_calls_at_once_have_deadlines_of_their_own() -> None:
    def answer(request: bytes, write: Callable[[bytes], None]) -> None:
        if b"slow" in request:
            time.sleep(3)
        write(http(GOOD))

    with RawServer(answer).running() as server:
        judge = build("judge", {"name": "openai", "model": "m", "base_url": server.url, "max_retries": 0, "timeout": 1})
        replies: dict[str, JudgeReply] = {}

        def ask(text: str) -> None:
            (replies[text],) = judge.reply([JudgeRequest(messages=(Message(role="user", content=text),))])

        threads = [threading.Thread(target=ask, args=(text,)) for text in ("slow", "a", "b", "slow too")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [replies[name].error is None for name in ("slow", "a", "b", "slow too")] == [False, True, True, False]
