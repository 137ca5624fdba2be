"""What generators and reward models do with servers that refuse; what a recipe may send besides; who never answers."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.components import build
from harness.errors import JudgeError, ModelError
from harness.judging.asker import make_ask
from harness.protocols import Ready, Sampled, SampleRequest
from harness.servers import served
from harness.servers.adapting.streams import is_stream, joined
from harness.servers.replies import chat
from harness.types import JudgeRequest, Message, Sampling
from tests.fake_server import Body, FakeServer, completion
from tests.servers import behaviours as does
from tests.servers.behaviours import obeying, openai_words, pydantic_words

KEY = "sk-planted-0123456789"
REMOTE = "https://judge.example.org/v1"
PROMPT = (Message(role="system", content="s"), Message(role="user", content="u"))
REQUEST = JudgeRequest(messages=PROMPT)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT", 0.02)


def judge(url: str, **fields: Any) -> Any:
    return build("judge", {"name": "openai", "model": "m", "base_url": url} | fields)


def sampled(url: str, sampling: Sampling, count: int = 1, **fields: Any) -> list[Any]:
    made: Any = build("generator", {"name": "openai", "model": "m", "base_url": url} | fields)
    rows: list[Sampled] = []
    made.generate([SampleRequest(PROMPT, sampling, tuple(range(count)))], seed=1, arrived=rows.extend)
    return [row.completion for row in sorted(rows, key=lambda row: row.sample)]


class TestGenerators:
    def test_what_a_sample_means_stays(self, caplog: pytest.LogCaptureFixture) -> None:
        rules = [openai_words("max_tokens"), openai_words("temperature"), openai_words("top_p"), does.no_system]
        answer = obeying(*rules, pydantic_words("seed", "stop"), last=lambda body: completion("one END two"))
        with caplog.at_level(logging.WARNING, "harness"), FakeServer(answer).running() as server:
            done = sampled(server.url, Sampling(temperature=1.0, max_new_tokens=9, stop=("END",)), 20)
        assert [(c.text, c.finish_reason) for c in done] == [("one ", "stop")] * 20
        assert server.completed[0] == {
            "model": "m",
            "messages": [{"role": "user", "content": "s\n\nu"}],
            "max_completion_tokens": 9,
        }
        (told,) = [m for m in caplog.messages if "from now on" in m]
        assert "without seed, without stop" in told

    @pytest.mark.parametrize(
        ("name", "sampling"), [("temperature", Sampling(temperature=0.7)), ("top_p", Sampling(top_p=0.9))]
    )
    @pytest.mark.parametrize("concurrency", [1, 64])
    def test_samples_that_would_be_others_stop_the_run(self, name: str, sampling: Sampling, concurrency: int) -> None:
        with (
            FakeServer(obeying(openai_words(name, value=1))).running() as server,
            pytest.raises(ModelError, match=rf"the server refused m \(HTTP 400: Unsupported parameter: '{name}'"),
        ):
            sampled(server.url, sampling, 100, concurrency=concurrency)
        assert len(server.requests) <= 10

    def test_a_refusal_that_mentions_something_long_is_no_empty_sample(self) -> None:
        words = {"error": {"message": "this model is no longer available in your context of use"}}
        with (
            FakeServer(lambda body: (400, words, {})).running() as server,
            pytest.raises(ModelError, match="no longer available"),
        ):
            sampled(server.url, Sampling(), 50)

    def test_one_refused_prompt_leaves_the_others(self) -> None:
        def answer(body: Body) -> Any:
            if body["messages"][-1]["content"] == "odd":
                return 400, {"error": {"message": "filtered", "code": "content_filter"}}, {}
            return completion("ok")

        rows: list[Sampled] = []
        prompts = [(Message(role="user", content=text),) for text in ("a", "b", "odd", "c")]
        with FakeServer(answer).running() as server:
            made: Any = build("generator", {"name": "openai", "model": "m", "base_url": server.url, "concurrency": 1})
            requests = [SampleRequest(prompt, Sampling(), (0,)) for prompt in prompts]
            with pytest.raises(ModelError, match=r"1 of 4 samples: the server refused m .*filtered"):
                made.generate(requests, seed=1, arrived=rows.extend)
        assert sorted(row.request for row in rows) == [0, 1, 3]


class TestRewardModels:
    def scores(self, url: str, count: int, folder: Path) -> Any:
        reward: Any = build("reward", {"name": "api", "model": "m", "base_url": url, "concurrency": 64})
        kept: list[Any] = []
        rows = [((Message(role="user", content="u"),), f"a{i}") for i in range(count)]
        try:
            return reward.score(rows, Ready(folder, lambda n: None, lambda judge: None, (), kept.extend))  # type: ignore[arg-type, return-value]
        finally:
            self.kept = kept

    @pytest.mark.parametrize("status", [400, 422])
    @pytest.mark.parametrize("count", [3, 100])
    def test_a_server_that_refuses_all_is_an_error(self, status: int, count: int, tmp_path: Path) -> None:
        answer: Any = status, {"detail": "this model has no classification head"}, {}
        with (
            FakeServer(lambda body: answer).running() as server,
            pytest.raises(ModelError, match=rf"refused m \(HTTP {status}: this model has no classification head"),
        ):
            self.scores(server.url, count, tmp_path)
        assert len(server.requests) <= 10
        assert self.kept == []

    def test_what_is_too_long_is_not_scored(self, tmp_path: Path) -> None:
        error = {"error": {"message": "This model's maximum context length is 10 tokens", "code": 400}}
        with FakeServer(lambda body: (400, error, {})).running() as server:
            assert self.scores(server.url, 12, tmp_path) == [None] * 12

    def test_one_of_two_names_of_a_parameter_is_enough(self, tmp_path: Path) -> None:
        answer = obeying(pydantic_words("activation"), last=lambda body: {"data": [{"probs": [-0.5]}]})
        with FakeServer(answer).running() as server:
            assert self.scores(server.url, 12, tmp_path) == [-0.5] * 12
        assert server.completed[-1]["use_activation"] is False


class TestFields:
    def test_what_a_server_needs_is_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GATEWAY_TOKEN", f"Bearer {KEY}\n")
        fields = {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}}
        more = {
            "max_tokens": 500,
            "query": {"api-version": "2025-01-01-preview"},
            "headers": {"X-Gate": "GATEWAY_TOKEN"},
        }
        with FakeServer(lambda body: completion("ok")).running() as server:
            judge(server.url, **fields, **more).reply([REQUEST.model_copy(update={"max_tokens": n}) for n in (1, 900)])
        assert [body["max_tokens"] for body in server.requests] == [500, 900]
        assert all(body | fields == body for body in server.requests)
        assert server.paths[0] == "/v1/chat/completions?api-version=2025-01-01-preview"
        assert {k.lower(): v for k, v in server.headers[0].items()}["x-gate"] == f"Bearer {KEY}"

    def test_a_header_is_a_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def made(url: str) -> Any:
            return judge(url, headers={"api-key": "MY_KEY"}, api_key_env=None, max_retries=0)

        monkeypatch.delenv("MY_KEY", raising=False)
        with pytest.raises(JudgeError, match="api-key is to be the value of MY_KEY, which is not set"):
            made(REMOTE).check()
        monkeypatch.setenv("MY_KEY", f"Bearer {KEY}")
        with pytest.raises(JudgeError, match=r"the key in MY_KEY is not sent to judge.example.org") as refused:
            made(REMOTE).check()
        echo = {"error": {"message": f"no access for {KEY}"}}
        with FakeServer(lambda body: (403, echo, {})).running() as server, pytest.raises(JudgeError) as denied:
            made(server.url).reply([REQUEST])
        shown = [repr(made(server.url)), str(made(server.url).identity()), str(refused.value), str(denied.value)]
        assert all(KEY not in text for text in shown)
        assert "no access for ***" in str(denied.value)
        monkeypatch.setenv("MY_KEY", "two\nlines")
        with pytest.raises(JudgeError, match="headers: MY_KEY holds no header's value"):
            made(server.url).check()

    @pytest.mark.parametrize(
        "fields",
        [
            {"headers": {"api-key": KEY}},
            {"headers": {"Host": "MY_HOST"}},
            {"headers": {"a b": "MY_KEY"}},
            {"query": {"api_key": "abc"}},
            {"query": {"sig": "abc"}},
            {"query": {"token": "abc"}},
            {"query": {"client_secret": "abc"}},
            {"query": {"v": "sk-a1b2c3d4e5f6a7b8c9d0e1f2"}},
            {"query": {"api-version": "a b"}},
            {"extra_body": {"authentication": {"key": "a1b2c3d4e5f6a7b8c9d0e1f2"}}},
            {"chat_template_kwargs": {"api_key": "a1b2c3d4e5f6a7b8c9d0e1f2"}},
            {"reasoning_effort": "low", "extra_body": {"reasoning_effort": "high"}},
            {"max_tokens": 0},
            {"served_as": ""},
        ],
    )
    def test_no_secret_and_no_contradiction_is_in_a_recipe(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ValidationError) as error:
            judge(REMOTE, **fields)
        assert "a1b2c3d4e5f6" not in str(error.value)
        assert KEY not in str(error.value)

    def test_only_a_vendor_needs_a_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        assert judge(REMOTE)._key() == "none-needed"
        with pytest.raises(JudgeError, match="needs a key: set OPENAI_API_KEY"):
            judge("https://api.openai.com/v1").check()
        with (
            FakeServer(lambda body: (401, {"message": "who are you?"}, {})).running() as server,
            pytest.raises(JudgeError, match=r"who are you\?.*none was sent; name its variable in api_key_env"),
        ):
            judge(server.url).reply([REQUEST])

    def test_where_a_key_is_a_header_a_refusal_names_those(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_HEAD", KEY)
        with (
            FakeServer(lambda body: (401, {"message": "who?"}, {})).running() as server,
            pytest.raises(JudgeError, match=r"base_url and its headers$"),
        ):
            judge(server.url, api_key_env=None, headers={"api-key": "MY_HEAD"}).reply([REQUEST])


class TestSilence:
    def test_a_server_that_says_nothing_stops_all_callers_within_the_timeout(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(served, "UNREACHED", 0.5)
        asked = [JudgeRequest(messages=(Message(role="user", content=f"q{i}"),)) for i in range(100)]
        with FakeServer(lambda body: "silence", silence=3).running() as server:
            made = judge(server.url, timeout=1)
            ask = make_ask(made, tmp_path / "j.jsonl", concurrency=64, advance=lambda _: None)
            start = time.monotonic()
            with pytest.raises(JudgeError, match=r"no whole reply within 1 s.*answered nobody.*raise timeout"):
                ask(asked)
            assert time.monotonic() - start < 3
        assert len(server.requests) <= 10

    def test_a_host_that_is_not_there_is_given_up_soon(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(served, "UNREACHED", 0.3)
        monkeypatch.setattr("socket.getaddrinfo", lambda *a, **k: [(2, 1, 6, "", ("192.0.2.1", 443))])
        calls: list[float] = []

        def connect(*args: Any, **kwargs: Any) -> Any:
            calls.append(time.monotonic())
            raise TimeoutError("timed out")

        monkeypatch.setattr("socket.create_connection", connect)
        ask = make_ask(judge(REMOTE, api_key_env=None), tmp_path / "j.jsonl", concurrency=8, advance=lambda _: None)
        start = time.monotonic()
        with pytest.raises(JudgeError, match=r"no connection to judge.example.org:443 within"):
            ask([JudgeRequest(messages=(Message(role="user", content=f"q{i}"),)) for i in range(100)])
        assert time.monotonic() - start < 3
        assert len(calls) < 80

    def test_a_server_that_fails_for_all_stops_them(self, tmp_path: Path) -> None:
        asked = [JudgeRequest(messages=(Message(role="user", content=f"q{i}"),)) for i in range(100)]
        with FakeServer(lambda body: (500, {"error": {"message": "CUDA error"}}, {})).running() as server:
            made = judge(server.url, max_retries=1)
            ask = make_ask(made, tmp_path / "j.jsonl", concurrency=64, advance=lambda _: None)
            with pytest.raises(JudgeError, match=r"none of the first \d+ requests \(HTTP 500: CUDA error\)"):
                ask(asked)
        assert len(server.requests) <= 20


class TestStreams:
    def test_a_stream_is_the_reply_that_it_stands_for(self) -> None:
        asked = {"stream": True, "logprobs": True, "stream_options": {"include_usage": True}}
        made: Any = does.streamed({**asked, "messages": [{"content": "x"}]})
        content = made[1]
        assert is_stream(content)
        read = chat(joined(content), str)
        assert read.text in ("m", "M")
        assert read.logprobs is not None
        assert (read.prompt_tokens, read.completion_tokens) == (10, 3)

    @pytest.mark.parametrize(
        "content",
        [
            b'data: {"choices": [{"delta": {"content": "half"}}]}\n\n',
            b"data: {nonsense\n\n",
            b"data: [1]\n\n",
            b": keep-alive\n\n",
        ],
    )
    def test_a_stream_that_is_not_whole_is_no_reply(self, content: bytes) -> None:
        with pytest.raises(ValueError, match="stream"):
            joined(content)

    def test_a_failure_within_a_stream_is_told(self) -> None:
        with pytest.raises(ValueError, match="overloaded"):
            chat(joined(b'data: {"error": {"message": "overloaded"}}\n\n'), str)


def test_callers_at_once_all_adapt_and_none_is_lost(tmp_path: Path) -> None:
    """Eight calls are refused together, before any is answered."""
    together = threading.Barrier(8)
    waiting = [8]

    def answer(body: Body) -> Any:
        if waiting[0] > 0:
            waiting[0] -= 1
            together.wait(30)
        return obeying(openai_words("max_tokens"), openai_words("temperature"))(body)

    asked = [JudgeRequest(messages=(Message(role="user", content=f"q{i}"),)) for i in range(12)]
    with FakeServer(answer).running() as server:
        ask = make_ask(judge(server.url), tmp_path / "j.jsonl", concurrency=8, advance=lambda _: None)
        replies = ask(asked)
    assert [reply.error for reply in replies] == [None] * 12
    assert {reply.adapted for reply in replies} == {("without temperature",)}
