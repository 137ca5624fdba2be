"""Which replies count, and what becomes of odd ones: no crash, no figure, nothing odd in a journal."""

import base64
import json
import math
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from harness.augmentation.pool import Pool
from harness.components import build
from harness.errors import JudgeError, ModelError
from harness.judging.asker import make_ask
from harness.protocols import Ready
from harness.servers import served
from harness.servers.masking import without_key
from harness.servers.replies import shares
from harness.types import JudgeRequest, Message, Price, Sampling
from tests.fake_server import FakeServer, completion

KEY = "sk-planted-0123456789/+=x"
REQUEST = JudgeRequest(messages=(Message(role="user", content="u"),))
HUGE = b"1" + b"0" * 400


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT", 0.01)


def with_choice(**fields: Any) -> bytes:
    body = completion("Rating: [[5]]")
    body["choices"][0] |= fields
    return json.dumps(body).encode()


def with_top(top: Any) -> bytes:
    return with_choice(logprobs={"content": [{"token": "x", "logprob": 0, "top_logprobs": top}]})


def with_usage(usage: bytes) -> bytes:
    return json.dumps(completion("fine", usage=0)).encode().replace(b'"usage": 0', b'"usage": ' + usage)


def with_more(value: bytes) -> bytes:
    """A good reply but for a field that nobody reads."""
    return with_choice()[:-1] + b', "more": ' + value + b"}"


PART = {"type": "text", "text": "a"}
BROKEN = {
    "usage of 10^400": with_usage(b'{"prompt_tokens": ' + HUGE + b', "completion_tokens": 1}'),
    "a float beyond range": with_usage(b'{"prompt_tokens": 1e999, "completion_tokens": 1}'),
    "a key twice": b'{"choices": [], "choices": [{"message": {"content": "[[5]]"}}]}',
    "very deep": with_more(b'{"a":' * 5000 + b"1" + b"}" * 5000),
    "very deep lists": with_more(b"[" * 100_000 + b"]" * 100_000),
    "many values": with_more(b"[" + b"0," * 1_200_000 + b"0]"),
    "not UTF-8": b'{"choices": [{"message": {"content": "\xff\xfe"}}]}',
    "half a stream": b'data: {"choices": [{"delta": {"content": "[[5]]"}}]}\n\n',
    "half": with_choice()[:-20],
    "nothing": b"",
    "blanks": b"  \n ",
    "null": b"null",
    "a number": b"7",
    "a web page": b"<html>sign in</html>",
    "an error": b'{"error": "out of memory"}',
    "choices are a number": json.dumps(completion("", choices=5)).encode(),
    "choices are an object": json.dumps(completion("", choices={"0": {"message": {"content": "[[5]]"}}})).encode(),
    "content is a number": with_choice(message={"content": 5}),
    "content is an object": with_choice(message={"content": {"text": "[[5]]"}}),
    "content is true": with_choice(message={"content": True}),
    "content of 2 MB": with_choice(message={"content": "[[5]]" * 400_000}),
    "unfinished": with_choice(finish_reason="abort"),
    "finish_reason is a number": with_choice(finish_reason=7),
    "finish_reason is a list": with_choice(finish_reason=["stop"]),
    "a probability above 1": with_top([{"token": "m", "logprob": 5.0}]),
    "a log-probability that is a text": with_top([{"token": "m", "logprob": "-0.1"}, {"token": "M", "logprob": -3}]),
    "a log-probability that is true": with_top([{"token": "m", "logprob": True}]),
    "infinite": with_top([{"token": "m", "logprob": math.inf}]),
    "a token that is a number": with_top([{"token": 5, "logprob": -0.1}]),
    "a token that is missing": with_top([{"logprob": -0.1}]),
    "a list instead of an entry": with_top([["m", -0.1]]),
    "a very long token": with_top([{"token": "m" * 10_000, "logprob": -0.1}]),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_a_broken_reply_is_retried_and_then_not_scored(body: bytes, tmp_path: Path) -> None:
    bodies = [body, json.dumps(completion("fine")).encode()]
    with FakeServer(lambda _: (200, bodies.pop(0) if len(bodies) > 1 else bodies[0], {})).running() as server:
        judge = build("judge", {"name": "openai", "model": "m", "base_url": server.url, "max_retries": 1})
        (reply,) = judge.reply([REQUEST])
        assert (reply.text, reply.faults, reply.error) == ("fine", ("broken reply",), None)
    with FakeServer(lambda _: (200, body, {})).running() as server:
        judge = build("judge", {"name": "openai", "model": "m", "base_url": server.url, "max_retries": 0})
        ask = make_ask(judge, tmp_path / "j.jsonl", concurrency=1, advance=lambda _: None)
        (reply,) = ask([REQUEST])
    assert reply.error is not None
    assert len(reply.error) <= 300
    assert (reply.text, reply.logprobs, reply.transient, reply.faults) == ("", None, False, ("broken reply",))
    assert not (tmp_path / "j.jsonl").exists()
    with pytest.raises(JudgeError, match=r"the judge failed to answer 1 of 1 requests .*correct that and run again"):
        ask.require_replies("the judge")


def test_of_many_alternatives_the_first_are_kept() -> None:
    top = [{"token": f"t{i}", "logprob": -1.0} for i in range(1500)]
    with FakeServer(lambda _: (200, with_top(top), {})).running() as server:
        (reply,) = build("judge", {"name": "openai", "model": "m", "base_url": server.url}).reply([REQUEST])
    assert list(reply.logprobs or ()) == [f"t{i}" for i in range(1000)]


@pytest.mark.parametrize(
    "usage",
    [
        b"null",
        b"7",
        b"[]",
        b'{"prompt_tokens": -5, "completion_tokens": 3}',
        b'{"prompt_tokens": "10", "completion_tokens": 3}',
        b'{"prompt_tokens": true, "completion_tokens": 3}',
        b'{"prompt_tokens": 1.5, "completion_tokens": 3}',
        b'{"prompt_tokens": 10, "completion_tokens": null}',
        b'{"prompt_tokens": 10}',
        b'{"prompt_tokens": NaN, "completion_tokens": 3}',
        b'{"prompt_tokens": 100000000000000000000000000000, "completion_tokens": 3}',
    ],
)
def test_a_reply_that_does_not_count_its_tokens_has_an_unknown_price(usage: bytes) -> None:
    with FakeServer(lambda _: (200, with_usage(usage), {})).running() as server:
        price = Price(input=1, output=1)
        judge = build("judge", {"name": "openai", "model": "m", "base_url": server.url, "price": price})
        (reply,) = judge.reply([REQUEST])
    assert (reply.text, reply.error, reply.price) == ("fine", None, None)
    assert (reply.prompt_tokens, reply.completion_tokens) == (0, 0)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            with_choice(
                message={"content": [{"type": "text", "text": "a"}, {"type": "x"}, {"type": "text", "text": "b"}]}
            ),
            "ab",
        ),
        (with_choice(message={"content": None, "refusal": "no"}), "no"),
        (with_choice(message={"content": "a\u0000b\u202e"}), "a\u0000b\u202e"),
        (with_choice(message={"content": "a\ud800b"}), "a?b"),
        (with_choice(message={"content": "ok"}, finish_reason=None), "ok"),
        (with_choice(message={"content": "ok"}, finish_reason="content_filter"), "ok"),
        (json.dumps(completion("ok", model=7, id=["x"], created="now", system_fingerprint={})).encode(), "ok"),
        (with_usage(b'{"prompt_tokens": 10.0, "completion_tokens": 3}'), "fine"),
    ],
)
def test_an_unusual_reply_is_read(body: bytes, text: str, tmp_path: Path) -> None:
    with FakeServer(lambda _: (200, body, {"Content-Type": "text/plain; charset=hex"})).running() as server:
        judge = build("judge", {"name": "openai", "model": "m", "base_url": server.url})
        (reply,) = make_ask(judge, tmp_path / "j.jsonl", concurrency=1, advance=lambda _: None)([REQUEST])
    again = make_ask(judge, tmp_path / "j.jsonl", concurrency=1, advance=lambda _: None)([REQUEST])
    assert reply.text == text
    assert again == [reply]


@pytest.mark.parametrize("logprob", [b"-9999.0", b"-1e9", b"NaN", b"-Infinity", b"null"])
def test_a_token_without_probability_has_none(logprob: bytes) -> None:
    body = with_top([{"token": "m", "logprob": 0}, {"token": "M", "logprob": -0.5}]).replace(
        b": 0}, {", b": " + logprob + b"}, {"
    )
    with FakeServer(lambda _: (200, body, {})).running() as server:
        (reply,) = build("judge", {"name": "openai", "model": "m", "base_url": server.url}).reply([REQUEST])
    assert reply.logprobs == {"m": -9999.0, "M": -0.5}
    assert shares(reply, ("m", "M")) == [0.0, 1.0]


def test_ten_ratings_without_probability_are_no_rating(tmp_path: Path) -> None:
    top = [{"token": str(n), "logprob": -9999.0} for n in range(1, 11)]
    odd = with_choice(
        message={"content": "?"}, logprobs={"content": [{"token": "?", "logprob": 0, "top_logprobs": top}]}
    )
    with FakeServer(lambda _: (200, odd, {})).running() as server:
        judge = {"name": "openai", "model": "m", "base_url": server.url}
        reward = build("reward", {"name": "llm_judge", "judge": judge})
        ask = make_ask(reward.judge, tmp_path / "j.jsonl", concurrency=1, advance=lambda _: None)
        ready = Ready(tmp_path, lambda _: None, lambda _: ask, ())
        assert reward.score([((Message(role="user", content="u"),), "a")], ready) == [None]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt_tokens": 10**400},
        {"completion_tokens": -1},
        {"logprobs": {"m": 800.0}},
        {"price": math.inf},
    ],
)
def test_an_odd_reply_of_an_older_journal_is_asked_again(fields: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with FakeServer(lambda _: completion("new")).running() as server:
        judge = build("judge", {"name": "openai", "model": "m", "base_url": server.url})
        ask = make_ask(judge, path, concurrency=1, advance=lambda _: None)
        (reply,) = ask([REQUEST])
        line = {"key": ask._key(REQUEST, 0), "reply": reply.model_dump(mode="json") | {"text": "old"} | fields}
        path.write_text(json.dumps(line) + "\n")
        ask = make_ask(judge, path, concurrency=1, advance=lambda _: None)
        assert [reply.text for reply in ask([REQUEST])] == ["new"]
        del line["reply"]["model"], line["reply"]["fingerprint"]  # as older versions wrote it
        line["reply"] |= {"prompt_tokens": 1, "completion_tokens": 1, "logprobs": None, "price": None}
        path.write_text(json.dumps(line) + "\n")
        ask = make_ask(judge, path, concurrency=1, advance=lambda _: None)
        assert [reply.text for reply in ask([REQUEST])] == ["old"]


SAMPLES = {
    "no text": {"choices": [{"text": None}]},
    "no choices": {"choices": []},
    "text is a number": {"choices": [{"text": 5}]},
    "unfinished": {"choices": [{"text": "half", "finish_reason": "error"}]},
    "a chat": completion("hello"),
}


@pytest.mark.parametrize("body", SAMPLES.values(), ids=SAMPLES)
def test_a_broken_sample_is_not_kept(body: dict[str, Any], tmp_path: Path) -> None:
    with FakeServer(lambda _: body).running() as server:
        made = build("generator", {"name": "openai", "model": "m", "base_url": server.url, "max_retries": 0})
        pool = Pool(made, tmp_path, seed=0, advance=lambda _: None)
        with pytest.raises(ModelError, match="1 of 1 requests to m failed"):
            pool.sample(["prompt"], Sampling(), range(1))
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize(
    "value",
    ['"0.5"', "true", "[]", "[[1]]", "1e7", "-1e300", '{"a": 1}', '[1, "2"]', "Infinity", "1" + "0" * 400],
)
def test_a_score_that_no_reward_model_gives_is_a_broken_reply(value: str, tmp_path: Path) -> None:
    body = f'{{"data": [{{"probs": {value}}}]}}'.encode()
    with FakeServer(lambda _: (200, body, {})).running() as server:
        url = server.url.removesuffix("/v1")
        reward = build("reward", {"name": "api", "model": "m", "base_url": url, "max_retries": 1})
        with pytest.raises(ModelError, match="1 of 1 responses could not be scored"):
            reward.score([((Message(role="user", content="u"),), "a")], Ready(tmp_path, lambda _: None, None, ()))
    assert len(server.requests) == 2


def encodings(key: str) -> dict[str, str]:
    return {
        "plain": key,
        "bearer": f"Bearer {key}",
        "quoted": repr(key),
        "in an address": f"?key={quote(key, safe='')}&x",
        "half quoted": quote(key),
        "JSON": json.dumps({"k": key}).replace("/", "\\/"),
        "escaped": "".join(f"\\u{ord(c):04x}" for c in key),
        "every character quoted": "".join(f"%{ord(c):02X}" for c in key),
        "basic": base64.b64encode(f"user:{key}".encode()).decode(),
        "base64": base64.b64encode(key.encode()).decode(),
        "base64 for addresses": base64.urlsafe_b64encode(f"a{key}b".encode()).decode(),
        "hexadecimal": key.encode().hex(),
        "upper case": key.upper(),
        "over two lines": f"{key[:9]}\n  {key[9:]}",
        "HTML": key.replace("+", "&#43;"),
    }


@pytest.mark.parametrize("form", encodings(KEY))
def test_a_key_is_masked_in_every_form(form: str) -> None:
    text = encodings(KEY)[form]
    masked = without_key(f"before {text} after", KEY)
    assert "***" in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    left = masked.replace("***", "")
    assert not any(
        KEY[i : i + 6] in left or base64.b64encode(KEY[i : i + 9].encode()).decode() in left for i in range(12)
    )


def test_a_short_key_and_other_texts_are_left() -> None:
    assert without_key("a dummy answer", "dummy") == "a dummy answer"
    assert without_key("sk-planted-012345678 is not it", KEY) == "sk-planted-012345678 is not it"


def test_a_key_that_a_server_repeats_is_kept_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for text in encodings(KEY).values():
        body = completion(
            f"I was sent {text}", {text[:190]: -0.1, "m": -3.0}, model=text[:190], system_fingerprint=text
        )
        body["choices"][0]["text"] = text
        with FakeServer(lambda _, body=body: body).running() as server:
            fields = {"name": "openai", "model": "m", "base_url": server.url}
            make_ask(build("judge", fields), tmp_path / "j.jsonl", concurrency=1, advance=lambda _: None)([REQUEST])
            pool = Pool(build("generator", fields), tmp_path, seed=0, advance=lambda _: None)
            pool.sample(["prompt", REQUEST.messages], Sampling(), range(1))
        for path in tmp_path.glob("*.jsonl"):
            kept = path.read_text()
            assert "***" in kept
            assert not any(KEY[i : i + 6] in kept for i in range(12))
            path.unlink()
