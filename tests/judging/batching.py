"""A judge whose requests go in batches, forty requests, and a server that refuses what it doesn't know."""

from pathlib import Path
from typing import Any

import pytest

from harness.components import build
from harness.engine import interrupts
from harness.judging.asker import Asker, make_ask
from harness.judging.batches import asking
from harness.servers import served
from harness.servers.spending import Spending
from harness.types import JudgeReply, JudgeRequest, Message, Price
from tests.fake_server import Body, completion
from tests.servers.batch_server import BatchServer, text_of

PRICE = Price(input=10, output=30, batch_input=5, batch_output=15)
REQUESTS = [JudgeRequest(messages=(Message(role="user", content=f"q{i}"),), max_tokens=20) for i in range(40)]


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_LOOK", 0.01)
    monkeypatch.setattr(served, "FIRST_WAIT", 0.01)


def asker(server: BatchServer, folder: Path, mode: str = "batch", limit: float | None = None, **more: Any) -> Asker:
    fields = {"name": "openai", "model": "m", "base_url": server.url, "mode": mode, "max_retries": 2}
    judge: Any = build("judge", fields | more)
    spending = Spending(limit)
    return make_ask(judge, folder / "j.jsonl", concurrency=4, advance=lambda _: None, price=PRICE, spending=spending)


def texts(replies: list[JudgeReply]) -> list[str]:
    return [reply.text for reply in replies]


EXPECTED = [f"re q{i}" for i in range(40)]


def strict(body: Body) -> Any:
    """Takes neither temperature nor max_tokens, and says so one by one."""
    for name, instead in (("temperature", ""), ("max_tokens", " Use 'max_completion_tokens' instead.")):
        if name in body:
            text = f"Unsupported parameter: '{name}' is not supported with this model (id {text_of(body)}).{instead}"
            return 400, {"error": {"message": text, "param": name, "code": "unsupported_parameter"}}
    if text_of(body) == "q7":
        return 400, {"error": {"message": "this prompt is too long: maximum context length is 3 tokens"}}
    return completion(f"re {text_of(body)}")


def stop_at(server: BatchServer, batch: int) -> None:
    """Ctrl-C while a batch is under way."""
    look = server.look

    def stopping(name: str, *, cancel: bool) -> tuple[int, Any]:
        if name == f"batch_{batch}":
            server.look = look  # type: ignore[method-assign]
            server.looks = 10**6
            interrupts._stop_requested.set()
        return look(name, cancel=cancel)

    server.look = stopping  # type: ignore[method-assign]
