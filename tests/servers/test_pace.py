"""How many calls a server is given at once, and what a Retry-After does to all who ask it."""

import math
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.components import build
from harness.judging.asker import make_ask
from harness.servers import served
from harness.servers.pace import HeldTooLong, Pace, Stopped
from harness.types import JudgeRequest, Message
from tests.fake_server import Body, FakeServer, completion

NEVER = threading.Event()


def judge(url: str, **fields: Any) -> Any:
    return build("judge", {"name": "openai", "model": "m", "base_url": url} | fields)


def requests(count: int) -> list[JudgeRequest]:
    return [JudgeRequest(messages=(Message(role="user", content=f"q{i}"),)) for i in range(count)]


def test_an_overload_halves_what_is_under_way_once_a_wave_and_answers_bring_it_back() -> None:
    pace = Pace()
    wave = [pace.enter(NEVER, 10) for _ in range(16)]
    assert pace.limit == math.inf
    for began in wave:
        pace.leave(began, answered=False, overloaded=True)
    assert pace.limit == 8
    for _ in range(2):
        wave = [pace.enter(NEVER, 10) for _ in range(8)]
        for began in wave:
            pace.leave(began, answered=True)
    assert 9.5 < pace.limit <= 10
    pace.leave(pace.enter(NEVER, 10), answered=False)
    assert 9.5 < pace.limit <= 10


@given(st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["answered", "overloaded", "failed"])), max_size=80))
def test_no_more_are_let_in_than_the_limit_says_and_one_always_is(steps: list[tuple[int, str]]) -> None:
    pace, under_way, full = Pace(), [], threading.Event()
    full.set()  # a caller that would have to wait is sent away instead
    for place, outcome in steps:
        if len(under_way) + 1 <= pace.limit:
            under_way.append(pace.enter(NEVER, 10))
        else:
            with pytest.raises(Stopped):
                pace.enter(full, 10)
        if place < len(under_way):
            began = under_way.pop(place)
            pace.leave(began, answered=outcome == "answered", overloaded=outcome == "overloaded")
        assert pace.limit >= 1


def test_a_pause_longer_than_the_caller_would_wait_is_refused() -> None:
    pace = Pace()
    pace.leave(pace.enter(NEVER, 10), answered=False, overloaded=True, retry_after=3600)
    with pytest.raises(HeldTooLong, match="3600 s"):
        pace.enter(NEVER, 600)


def test_a_retry_after_holds_back_every_caller(tmp_path: Path) -> None:
    first = threading.Event()

    def answer(body: Body) -> Any:
        if not first.is_set():
            first.set()
            return 429, {"error": {"message": "wait"}}, {"Retry-After": "0.6"}
        return completion("ok")

    with FakeServer(answer, delay=0.05).running() as server:
        # Two judges of one server, each with callers of its own.
        asks = [
            make_ask(judge(server.url, model=m), tmp_path / f"{m}.jsonl", concurrency=4, advance=lambda _: None)
            for m in ("a", "b")
        ]
        threads = [threading.Thread(target=ask, args=(requests(12),)) for ask in asks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [ask.ledger.asked for ask in asks] == [12, 12]
    assert sum(ask.ledger.faults.get("HTTP 429", 0) for ask in asks) == 1
    told = min(server.times) + 0.05
    assert not [t for t in server.times if told + 0.1 < t < told + 0.5]
    assert sum(t > told + 0.5 for t in server.times) >= 24 - 16


def test_a_server_that_can_do_four_at_once_is_soon_asked_no_more_than_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT", 0.02)
    lock, under_way = threading.Lock(), [0]

    def answer(body: Body) -> Any:
        with lock:
            under_way[0] += 1
            busy = under_way[0] > 4
        time.sleep(0.001 if busy else 0.03)
        with lock:
            under_way[0] -= 1
        return (429, {"error": {"message": "busy"}}, {}) if busy else completion("ok")

    with FakeServer(answer).running() as server:
        ask = make_ask(judge(server.url), tmp_path / "j.jsonl", concurrency=32, advance=lambda _: None)
        replies = ask(requests(150))
    assert all(reply.text == "ok" for reply in replies)
    refused = ask.ledger.faults["HTTP 429"]
    assert len(server.requests) == 150 + refused
    # Without a pace every free caller would be refused again and again while the others are served.
    assert refused < 120


def test_a_quota_that_is_used_up_is_no_overload(tmp_path: Path) -> None:
    body = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    with FakeServer(lambda _: (429, body, {})).running() as server:
        from harness.errors import JudgeError

        with pytest.raises(JudgeError, match="exceeded your current quota"):
            judge(server.url).reply(requests(1))
    assert len(server.requests) == 1


def test_a_server_that_only_turns_away_is_given_up_after_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(served, "LONGEST_WAIT", 0.05)
    with FakeServer(lambda _: (429, {"error": {"message": "busy"}}, {})).running() as server:
        start = time.monotonic()
        (reply,) = judge(server.url, patience=0.5, max_retries=0).reply(requests(1))
    assert 0.5 < time.monotonic() - start < 3
    assert reply.transient
    assert "HTTP 429" in str(reply.error)
    assert set(reply.faults) == {"HTTP 429"}


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler: a process that a shell has put into the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_waits_at_once_and_keeps_what_is_under_way(tmp_path: Path, ctrl_c: None) -> None:
    main = threading.main_thread().ident
    assert main is not None
    started: list[float] = []
    timer = threading.Timer(2, signal.pthread_kill, (main, signal.SIGINT))
    first = threading.Barrier(4)  # else a call that is late would be held back, too

    def answer(body: Body) -> Any:
        first.wait(30)
        if body["messages"][0]["content"] == "q0":
            started.append(time.monotonic())
            timer.start()
            return 429, {"error": {"message": "wait"}}, {"Retry-After": "60"}
        time.sleep(0.4)
        return completion("ok")

    with FakeServer(answer).running() as server:
        ask = make_ask(judge(server.url), tmp_path / "j.jsonl", concurrency=4, advance=lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            ask(requests(20))
        assert time.monotonic() - started[0] < 10
    assert ask.ledger.asked == 3
    assert len((tmp_path / "j.jsonl").read_text().splitlines()) == 3
