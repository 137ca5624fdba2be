import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import ValidationError

from harness.components import Component, build
from harness.errors import JudgeError
from harness.judges.openai import Openai
from harness.judging.asker import make_ask
from harness.servers.served import fault_of
from harness.types import JudgeRequest, Message, Price
from tests.fake_server import FakeServer, completion

KEY = "sk-planted-0123456789"


def judge(**fields: Any) -> Openai:
    made: Component = build("judge", {"name": "openai", "model": "m", "max_retries": 2} | fields)
    assert isinstance(made, Openai)
    return made


def request(**fields: Any) -> JudgeRequest:
    messages = (Message(role="system", content="s"), Message(role="user", content="u"))
    return JudgeRequest(messages=messages, **fields)


def test_sends_what_was_asked_and_reads_the_reply() -> None:
    logprobs = {"m": -0.1, "M": -2.5}
    with FakeServer(lambda body: completion("m", logprobs)).running() as server:
        made = judge(base_url=server.url, price=Price(input=2, output=10))
        (reply,) = made.reply([request(max_tokens=1, temperature=1, top_logprobs=5, choices=("m", "M"))])
    assert server.requests == [
        {
            "model": "m",
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
            "temperature": 1,
            "max_tokens": 1,
            "logprobs": True,
            "top_logprobs": 5,
        }
    ]
    assert (reply.text, reply.logprobs, reply.error) == ("m", logprobs, None)
    assert (reply.prompt_tokens, reply.completion_tokens) == (10, 3)
    assert reply.price == pytest.approx((10 * 2 + 3 * 10) / 1e6)


def test_without_logprobs_or_price_they_are_unknown() -> None:
    with FakeServer(lambda body: completion("Rating: [[5]]")).running() as server:
        (reply,) = judge(base_url=server.url).reply([request()])
    assert "logprobs" not in server.requests[0]
    assert (reply.logprobs, reply.price) == (None, None)


def test_falls_back_to_max_completion_tokens_once_and_for_all() -> None:
    def newer(body: dict[str, Any]) -> Any:
        if "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return 400, {"error": {"message": message, "param": "max_tokens"}}, {}
        return completion("ok")

    with FakeServer(newer).running() as server:
        made = judge(base_url=server.url)
        assert [r.text for r in made.reply([request(max_tokens=9), request(max_tokens=9)])] == ["ok", "ok"]
    limits = [(b.get("max_tokens"), b.get("max_completion_tokens")) for b in server.requests]
    assert limits == [(9, None), (None, 9), (None, 9)]


def test_calls_at_once_all_fall_back() -> None:
    def newer(body: dict[str, Any]) -> Any:
        time.sleep(0.1)
        if "max_tokens" in body:
            return 400, {"detail": [{"loc": ["body"], "msg": "max_tokens is not supported"}]}, {}
        return completion("ok")

    with FakeServer(newer).running() as server:
        made = judge(base_url=server.url)
        with ThreadPoolExecutor(8) as threads:
            replies = [reply for (reply,) in threads.map(lambda _: made.reply([request(max_tokens=9)]), range(8))]
    assert [reply.text for reply in replies] == ["ok"] * 8


def test_more_fields_are_sent_and_change_the_identity() -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "temperature": 1}
    with FakeServer(lambda body: completion("ok")).running() as server:
        made = judge(base_url=server.url, extra_body=extra)
        made.reply([request()])
        assert made.identity() == judge(base_url=server.url).identity() | {"extra_body": extra}
    assert server.requests[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert server.requests[0]["temperature"] == 1


@pytest.mark.parametrize("field", ["model", "messages", "max_tokens", "stream", "n", "seed"])
def test_fields_that_the_harness_sets_are_not_taken_from_the_recipe(field: str) -> None:
    with pytest.raises(ValidationError, match=f"{field} can't be set here"):
        judge(extra_body={field: 1})
    with pytest.raises(ValidationError):
        judge(extra_body={"x": float("nan")})


def test_any_other_bad_request_is_a_failed_reply() -> None:
    with FakeServer(lambda body: (400, {"error": {"message": "context too long"}}, {})).running() as server:
        (reply,) = judge(base_url=server.url).reply([request()])
    assert reply.error is not None
    assert "HTTP 400" in reply.error
    assert "context too long" in reply.error
    assert len(server.requests) == 1


def test_retries_passing_faults_and_gives_up_after_them() -> None:
    faults = [(500, {"error": {}}, {}), (429, {"error": {}}, {"Retry-After": "0.01"})]
    with FakeServer(lambda body: faults.pop() if faults else completion("ok")).running() as server:
        (reply,) = judge(base_url=server.url).reply([request()])
    assert reply.text == "ok"
    assert len(server.requests) == 3
    with FakeServer(lambda body: (500, {"error": {"message": "down"}}, {})).running() as server:
        (reply,) = judge(base_url=server.url, max_retries=1).reply([request()])
    assert reply.error is not None
    assert "HTTP 500" in reply.error
    assert len(server.requests) == 2


@pytest.mark.parametrize("content", [b'{"choices": [{"mess', b"", b"<html>gateway</html>"])
def test_half_written_or_strange_replies_are_failed_replies(content: bytes) -> None:
    with FakeServer(lambda body: (200, content, {})).running() as server:
        (reply,) = judge(base_url=server.url, max_retries=0).reply([request()])
    assert reply.error
    assert reply.text == ""


def test_a_whole_reply_is_kept_with_its_tokens_whatever_is_in_it() -> None:
    empty = completion("")
    empty["choices"][0]["message"]["content"] = None
    answers = [empty, completion("x", choices=[])]
    with FakeServer(lambda body: answers.pop()).running() as server:
        first, second = judge(base_url=server.url).reply([request(), request()])
    for reply in (first, second):
        assert (reply.text, reply.error, reply.prompt_tokens, reply.completion_tokens) == ("", None, 10, 3)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": format_datetime(datetime.now(UTC) + timedelta(hours=1))}, 3600),
        ({"retry-after": format_datetime(datetime.now(UTC) - timedelta(seconds=30))}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "inf"}, 0),
        ({"retry-after": "1" + "0" * 300}, 86_400),
        ({"retry-after-ms": "9" * 90}, 86_400),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 86_400),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 -0000"}, 0),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 +1400"}, 0),
        ({"retry-after": "Mon, 99 Foo 99999 99:99:99"}, 0),
        ({"retry-after": "soon"}, 0),
        ({}, 0),
    ],
)
def test_a_pause_is_read_as_seconds_or_as_a_date(headers: dict[str, str], seconds: float) -> None:
    request = httpx.Request("POST", "http://host/v1")
    error = openai.RateLimitError("m", response=httpx.Response(429, headers=headers, request=request), body=None)
    fault = fault_of(error)
    assert fault is not None
    assert fault.retry_after == pytest.approx(seconds, abs=600 if seconds > 10 else 1e-9)


def test_a_refusal_keeps_what_was_answered_before_it_and_at_the_same_time(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if body["messages"][-1]["content"] == "q5":
            return 401, {"error": {"message": "refused"}}, {}
        time.sleep(0.3)
        return completion("ok")

    under_way = threading.Barrier(8)

    def answer_together(body: dict[str, Any]) -> Any:
        under_way.wait(timeout=30)
        return answer(body)

    asked = [JudgeRequest(messages=(Message(role="user", content=f"q{i}"),)) for i in range(30)]
    with FakeServer(answer_together).running() as server:
        ask = make_ask(judge(base_url=server.url), tmp_path / "j.jsonl", concurrency=8, advance=lambda _: None)
        with pytest.raises(JudgeError, match="refused"):
            ask(asked)
    assert len((tmp_path / "j.jsonl").read_text().splitlines()) == len(server.completed) == ask.ledger.asked == 7
    with FakeServer(answer).running() as server:
        replies = judge(base_url=server.url).reply(asked[4:8])
    assert [reply.error is None for reply in replies] == [True, False, False, False]
    assert all(reply.transient for reply in replies[1:])


def test_nobody_listening_stops_at_once() -> None:
    with FakeServer(lambda body: completion("x")).running() as server:
        pass
    with pytest.raises(JudgeError, match=r"judge .openai. at http://127.*: connection refused by 127.* start"):
        judge(base_url=server.url, max_retries=0).reply([request()])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_or_model_stops_at_once(status: int) -> None:
    with FakeServer(lambda body: (status, {"error": {"message": "refused"}}, {})).running() as server:
        with pytest.raises(JudgeError, match=f"refused m .*HTTP {status}"):
            judge(base_url=server.url).reply([request(), request()])
        assert len(server.requests) == 1


def test_a_key_is_needed_except_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(JudgeError, match="judge 'openai' needs a key: set OPENAI_API_KEY"):
        judge().check()
    with pytest.raises(JudgeError, match="set MY_KEY"):
        judge(base_url="https://judge.example/v1", api_key_env="MY_KEY").check()
    for address in ("http://localhost:8000/v1", "http://127.0.0.1:1/v1", "http://[::1]:9/v1"):
        judge(base_url=address).check()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    judge().check()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("localhost:8000", "expected an http"),
        ("http://[::1/v1", "IPv6"),
        ("https://user:secret@host/v1", "without user"),
        ("https://host/v1?api-key=secret", "without user, password or query"),
    ],
)
def test_an_address_is_plain_and_holds_no_secret(address: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        judge(base_url=address)


def test_the_address_is_the_recipes_not_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    made = judge()
    assert str(made._connect().base_url) == "https://api.openai.com/v1/"


def test_the_key_is_sent_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("PLANTED", KEY)
    caplog.set_level(logging.DEBUG)
    echo = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    answers = [(401, echo, {}), (400, echo, {})]
    with FakeServer(lambda body: answers.pop()).running() as server:
        made = judge(base_url=server.url, api_key_env="PLANTED", max_retries=0)
        (reply,) = made.reply([request()])
        with pytest.raises(JudgeError) as refused:
            made.reply([request()])
    assert {k.lower(): v for k, v in server.headers[0].items()}["authorization"] == f"Bearer {KEY}"
    shown = [repr(made), str(made.identity()), made.model_dump_json(), str(reply), str(refused.value), caplog.text]
    assert all(KEY not in text for text in shown)
    assert "***" in str(reply.error)


def test_a_key_in_place_of_its_variables_name_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValidationError) as error:
        judge(api_key_env=KEY)
    assert KEY not in str(error.value)


def test_identity_holds_what_changes_a_reply_and_no_credentials() -> None:
    made = judge(base_url="https://host:8000/v1/", timeout=5, price=Price(input=1, output=1))
    assert made.identity() == {"name": "openai", "model": "m"}
    elsewhere = judge(
        base_url="http://localhost:1/v1", query={"api-version": "2025-01-01"}, headers={"api-key": "MY_KEY"}
    )
    assert elsewhere.identity() == made.identity()
    fields = {"reasoning_effort": "low", "max_tokens": 500, "chat_template_kwargs": {"enable_thinking": False}}
    assert judge(**fields, served_as="m at 8 bits").identity() == {"name": "openai", "model": "m at 8 bits", **fields}


def test_a_model_that_knows_no_top_p_is_asked_without_from_then_on() -> None:
    def answer(body: dict[str, Any]) -> Any:
        if "top_p" in body:
            return 400, {"error": {"message": "`temperature` and `top_p` cannot both be specified for this model"}}, {}
        return completion("fine")

    request = JudgeRequest(messages=(Message(role="user", content="u"),), top_p=1.0)
    with FakeServer(answer).running() as server:
        judge = build("judge", {"name": "openai", "model": "m", "base_url": server.url})
        assert [judge.reply([r])[0].text for r in (request, request)] == ["fine", "fine"]
    assert ["top_p" in body for body in server.requests] == [True, False, False]
