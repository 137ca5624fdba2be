"""The served generator, against a server on this machine: what it sends, what it makes of replies and of failures."""

import threading
from pathlib import Path
from typing import Any

import pytest

from harness.augmentation.pool import Pool
from harness.components import build
from harness.errors import ModelError
from harness.protocols import Sampled, SampleRequest
from harness.types import Message, Sampling
from tests.fake_server import FakeServer, completion

KEY = "sk-planted-0123456789"
PROMPT = (Message(role="system", content="s"), Message(role="user", content="u"))
SAMPLING = Sampling(temperature=0.8, top_p=0.9, max_new_tokens=7, stop=("\n\n",))


def generator(url: str, **fields: Any) -> Any:
    return build("generator", {"name": "openai", "model": "m", "base_url": url, "max_retries": 2} | fields)


def sampled(made: Any, requests: list[SampleRequest]) -> dict[tuple[int, int], Any]:
    rows: list[Sampled] = []
    lock = threading.Lock()

    def arrived(new: Any) -> None:
        with lock:
            rows.extend(new)

    made.generate(requests, seed=3, arrived=arrived)
    assert len({(r.request, r.sample) for r in rows}) == len(rows)
    return {(r.request, r.sample): r.completion for r in rows}


def test_every_sample_is_a_request_with_a_seed_of_its_own() -> None:
    with FakeServer(lambda body: completion(f"seed {body['seed']}")).running() as server:
        made = generator(server.url)
        three = sampled(made, [SampleRequest(PROMPT, SAMPLING, (0, 1, 2))])
        again = sampled(made, [SampleRequest(PROMPT, SAMPLING, (2,))])
    assert len({c.text for c in three.values()}) == 3
    assert again[0, 2] == three[0, 2]
    body = server.requests[0]
    assert {k: body[k] for k in ("model", "temperature", "top_p", "max_tokens", "stop")} == {
        "model": "m",
        "temperature": 0.8,
        "top_p": 0.9,
        "max_tokens": 7,
        "stop": ["\n\n"],
    }
    assert body["messages"] == [m.model_dump() for m in PROMPT]
    assert three[0, 0].tokens == 3


def test_a_text_is_continued_as_it_stands() -> None:
    def answer(body: dict[str, Any]) -> Any:
        choice = {"index": 0, "text": f"after {body['prompt']}", "finish_reason": "length", "logprobs": None}
        usage = {"prompt_tokens": 1, "completion_tokens": 7, "total_tokens": 8}
        return {"id": "x", "object": "text_completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}

    with FakeServer(answer).running() as server:
        done = sampled(generator(server.url), [SampleRequest("### Task 1\n", SAMPLING, (0,))])
    assert (done[0, 0].text, done[0, 0].finish_reason) == ("after ### Task 1\n", "length")


def test_a_prompt_that_is_too_long_gets_an_empty_completion_that_ended_by_length() -> None:
    error = {"error": {"message": "This model's maximum context length is 10 tokens", "code": 400}}
    with FakeServer(lambda body: (400, error, {})).running() as server:
        done = sampled(generator(server.url), [SampleRequest(PROMPT, SAMPLING, (0,))])
    assert (done[0, 0].text, done[0, 0].finish_reason, done[0, 0].tokens) == ("", "length", 0)


def test_what_fails_for_now_costs_nothing_that_arrived(tmp_path: Path) -> None:
    broken = threading.Event()
    broken.set()

    def answer(body: dict[str, Any]) -> Any:
        if broken.is_set() and body["messages"][-1]["content"] == "3":
            return 500, {"error": {"message": "no"}}, {"Retry-After": "0"}
        return completion(f"{body['messages'][-1]['content']} {body['seed']}")

    prompts = [(Message(role="user", content=str(i)),) for i in range(8)]
    with FakeServer(answer).running() as server:
        made = generator(server.url, max_retries=0)
        pool = Pool(made, tmp_path, seed=0, advance=lambda _: None)
        with pytest.raises(ModelError, match=r"2 of 16 requests to m failed \(HTTP 500.*run again"):
            pool.sample(prompts, SAMPLING, range(2))
        asked = len(server.requests)
        broken.clear()
        done = Pool(made, tmp_path, seed=0, advance=lambda _: None).sample(prompts, SAMPLING, range(2))
        assert len(server.requests) == asked + 2
        assert [row[0].text.split()[0] for row in done] == [str(i) for i in range(8)]
        more = Pool(made, tmp_path, seed=0, advance=lambda _: None).sample(prompts, SAMPLING, range(4))
        assert len(server.requests) == asked + 2 + 16
        assert [row[:2] for row in more] == done


@pytest.mark.parametrize("status", [401, 404, 422])
def test_a_server_that_refuses_is_told_in_one_line_without_the_key(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with (
        FakeServer(lambda body: (status, {"error": {"message": f"no {KEY}"}}, {})).running() as server,
        pytest.raises(ModelError, match="generator 'openai': the server refused m") as caught,
    ):
        sampled(generator(server.url), [SampleRequest(PROMPT, SAMPLING, (0, 1))])
    assert KEY not in str(caught.value)
    assert {k.lower(): v for k, v in server.headers[0].items()}["authorization"] == f"Bearer {KEY}"


def test_a_vendor_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError, match="generator 'openai' needs a key: set OPENAI_API_KEY"):
        generator("https://api.mistral.ai/v1").check()
    generator("http://127.0.0.1:1/v1").check()
    generator("https://api.example.org/v1").check()
    assert (
        generator("http://127.0.0.1:1/v1", concurrency=3).identity() == generator("http://127.0.0.1:1/v1/").identity()
    )
