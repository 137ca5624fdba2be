"""A judge in batches: the same replies as directly, none asked twice, whatever the server makes of a batch."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from harness.components import build
from harness.errors import CostError
from harness.judging.asker import make_ask
from harness.judging.batches import asking
from harness.servers.prices import at_most
from harness.types import Message
from tests.fake_server import Body, completion
from tests.judging.batching import EXPECTED, PRICE, REQUESTS, asker, fast, strict, texts
from tests.servers.batch_server import BatchServer, expired, text_of

pytestmark = pytest.mark.usefixtures(fast.__name__)


def test_all_requests_go_in_one_batch_and_come_back_at_its_price(tmp_path: Path) -> None:
    with BatchServer().running() as server:
        replies = (ask := asker(server, tmp_path))(REQUESTS)
        assert texts(replies) == EXPECTED
        assert [len(batch) for batch in server.submitted] == [40]
        assert not server.direct
        assert texts(asker(server, tmp_path)(REQUESTS)) == EXPECTED
        assert len(server.submitted) == 1
    assert replies[0].price == pytest.approx((10 * 5 + 3 * 15) / 1e6)
    assert ask.ledger.asked == 40
    assert ask.ledger.dollars == pytest.approx(40 * (replies[0].price or 0))


def test_what_is_sent_and_read_is_what_a_direct_call_sends_and_reads(tmp_path: Path) -> None:
    def answer(body: Body) -> Body:
        return completion("<think>so [[2]]</think> m", {"m": -0.1, "M": -2.5})

    requests = [r.model_copy(update={"top_logprobs": 5, "temperature": 0.0, "top_p": 1.0}) for r in REQUESTS]
    with BatchServer(answer).running() as server:
        more: dict[str, Any] = {"extra_body": {"service_tier": "x"}, "reasoning_effort": "low", "max_tokens": 300}
        in_batch = asker(server, tmp_path / "batch", **more)(requests)
        direct = asker(server, tmp_path / "direct", "direct", **more)(requests)
        sent = {text_of(line["body"]): line["body"] for line in server.submitted[0]}
        assert sent == {text_of(body): body for body in server.direct}
    assert [r.model_dump(exclude={"price"}) for r in in_batch] == [r.model_dump(exclude={"price"}) for r in direct]
    assert in_batch[0].text == "m" or in_batch[0].thought


def test_the_mode_is_no_part_of_a_judges_identity(tmp_path: Path) -> None:
    judges = [build("judge", {"name": "openai", "model": "m", "mode": mode}) for mode in ("direct", "batch")]
    assert judges[0].identity() == judges[1].identity()
    with BatchServer().running() as server:
        asker(server, tmp_path)(REQUESTS)
        asker(server, tmp_path, "direct")(REQUESTS)
        assert not server.direct


@pytest.mark.parametrize("status", [400, 404, 405, 422, 501])
@pytest.mark.parametrize("path", ["/files", "/batches"])
def test_a_server_without_batches_is_asked_directly_with_a_notice(
    tmp_path: Path, path: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with BatchServer(refuses={path: status}).running() as server:
        ask = asker(server, tmp_path)
        replies = ask(REQUESTS)
        assert texts(replies) == EXPECTED
        assert len(server.direct) == 40
        assert f"takes no batch (HTTP {status}: there is no {path})" in caplog.text
    assert replies[0].price == pytest.approx((10 * 10 + 3 * 30) / 1e6)  # the usual one


def shuffled(lines: list[Any]) -> list[Any]:
    return random.Random(0).sample(lines, len(lines))


DAMAGE = {
    "shuffled": (shuffled, 0),
    "half of it missing": (lambda lines: lines[::2], 20),
    "expired": (lambda lines: [line if i < 30 else expired(line) for i, line in enumerate(lines)], 10),
    "a torn last line": (lambda lines: [*lines[:-1], json.dumps(lines[-1]).encode()[:50]], 1),
    "unknown ids": (lambda lines: [x | {"custom_id": "0" * 64} if i % 4 == 0 else x for i, x in enumerate(lines)], 10),
    "ids that are none": (lambda lines: [x | {"custom_id": i} if i < 3 else x for i, x in enumerate(lines)], 3),
    "lines twice": (lambda lines: [*lines, *lines[:5]], 0),
    "an answer of another id twice": (lambda lines: [*lines[:39], lines[0]], 1),
    "an error before the answer": (lambda lines: [expired(lines[3]), *lines], 0),
    "no completion": (lambda lines: [{**lines[0], "response": {"status_code": 200, "body": {}}}, *lines[1:]], 1),
    "noise": (lambda lines: [b"[]", b"null", b"{}", b"\xff", b"", *lines], 0),
    "nothing": (lambda lines: [], 40),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_what_a_batch_lacks_is_asked_directly(tmp_path: Path, how: str) -> None:
    edit, missing = DAMAGE[how]
    with BatchServer(edit=edit, ends="expired" if how == "expired" else "completed").running() as server:
        replies = asker(server, tmp_path)(REQUESTS)
        assert texts(replies) == EXPECTED
        assert len(server.direct) == missing
        assert len(server.submitted) == 1


@pytest.mark.parametrize("ends", ["failed", "expired", "cancelled"])
def test_a_batch_that_ends_without_results_is_asked_directly(
    tmp_path: Path, ends: str, caplog: pytest.LogCaptureFixture
) -> None:
    with BatchServer(ends=ends, edit=lambda lines: []).running() as server:
        assert texts(asker(server, tmp_path)(REQUESTS)) == EXPECTED
        assert len(server.direct) == 40
    assert f"batch batch_1 is {ends}" in caplog.text
    assert ("not to my taste" in caplog.text) == (ends == "failed")


# Refusals.


def test_a_refused_parameter_is_left_out_of_the_next_batch(tmp_path: Path) -> None:
    with BatchServer(strict).running() as server:
        replies = asker(server, tmp_path)(REQUESTS)
        assert [reply.text for i, reply in enumerate(replies) if i != 7] == EXPECTED[:7] + EXPECTED[8:]
        assert "too long" in (replies[7].error or "")
        assert [len(batch) for batch in server.submitted] == [40, 40, 40]
        assert {text_of(body) for body in server.direct} == {"q7"}
        assert "temperature" not in server.submitted[-1][0]["body"]
        assert server.submitted[-1][0]["body"]["max_completion_tokens"] == 20
        assert "without temperature" in replies[0].adapted
        more = [
            r.model_copy(update={"messages": (Message(role="user", content=f"p{i}"),)}) for i, r in enumerate(REQUESTS)
        ]
        assert texts(asker(server, tmp_path)(more)) == [f"re p{i}" for i in range(40)]


def test_a_few_unreadable_replies_are_asked_again_directly(tmp_path: Path) -> None:
    def answer(body: Body) -> Body:
        return completion("?" if len(server.direct) == 0 and text_of(body) in ("q3", "q4") else f"re {text_of(body)}")

    with BatchServer(answer).running() as server:
        judge: Any = build("judge", {"name": "openai", "model": "m", "base_url": server.url, "mode": "batch"})
        ask = make_ask(judge, tmp_path / "j.jsonl", concurrency=1, advance=lambda _: None, retries_invalid=1)
        assert texts(ask.readable(REQUESTS, lambda reply: "?" if reply.text == "?" else None))[0] == "re q0"
        assert [len(batch) for batch in server.submitted] == [40]
        assert {text_of(body) for body in server.direct} == {"q3", "q4"}


def test_the_bar_counts_each_request_once(tmp_path: Path) -> None:
    counts: list[int] = []
    with BatchServer(edit=lambda lines: lines[:30]).running() as server:
        judge: Any = build("judge", {"name": "openai", "model": "m", "base_url": server.url, "mode": "batch"})
        make_ask(judge, tmp_path / "j.jsonl", concurrency=1, advance=counts.append)(REQUESTS)
    assert sum(counts) == 40


# Limits.


def test_a_batch_that_may_cost_too_much_is_made_smaller(tmp_path: Path) -> None:
    worst = at_most(REQUESTS[0], PRICE.in_batch())
    with BatchServer().running() as server:
        ask = asker(server, tmp_path, limit=worst * 25)
        assert texts(ask(REQUESTS)) == EXPECTED
        sizes = [len(batch) for batch in server.submitted]
        assert sum(sizes) == 40
        assert 20 <= sizes[0] <= 25
        assert not server.direct
        assert ask._spending.spent == pytest.approx(40 * (10 * 5 + 3 * 15) / 1e6)


def test_nothing_is_submitted_that_may_pass_the_limit(tmp_path: Path) -> None:
    with BatchServer().running() as server:
        with pytest.raises(CostError, match="the same command with a larger --max-cost"):
            asker(server, tmp_path, limit=at_most(REQUESTS[0], PRICE.in_batch()) * 3)(REQUESTS)
        assert not server.submitted
        assert not server.direct


def test_a_batch_holds_no_more_than_a_server_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MOST_REQUESTS", 16)
    with BatchServer().running() as server:
        assert texts(asker(server, tmp_path / "1")(REQUESTS)) == EXPECTED
        assert [len(batch) for batch in server.submitted] == [16, 16, 8]
        line = len(server.files["file-0"].splitlines()[0]) + 1
        monkeypatch.setattr(asking, "MOST_BYTES", 11 * line)
        assert texts(asker(server, tmp_path / "2")(REQUESTS)) == EXPECTED
        assert max(len(batch) for batch in server.submitted[3:]) <= 11
