"""Stand-ins for servers that refuse, need or lack something. Each judges by the prompt only, so that verdicts can be
compared with those of a server that takes everything."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.fake_server import Answer, Body, completion

Rule = Callable[[Body], Answer | None]
"""What a server answers instead of a verdict; None: it has nothing against the request."""


def share(body: Body) -> float:
    """A number in [0, 1) that depends on the last message's end only: a system message may stand before it."""
    return hashlib.sha256(body["messages"][-1]["content"][-60:].encode()).digest()[0] / 256


def verdict(body: Body) -> Body:
    """What a server that takes everything replies: a choice, and log-probabilities if they are asked for."""
    part = share(body)
    top = {"m": -3 * part - 0.01, "M": -3 * (1 - part) - 0.01}
    return completion("m" if part < 0.5 else "M", top if body.get("logprobs") else None)


def obeying(*rules: Rule, last: Callable[[Body], Answer] = verdict) -> Callable[[Body], Answer]:
    return lambda body: next((made for rule in rules if (made := rule(body)) is not None), None) or last(body)


def refused(content: Any, status: int = 400) -> Answer:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return status, data, {"Content-Type": "text/plain" if isinstance(content, bytes) else "application/json"}


def openai_words(name: str, *, value: Any = None) -> Rule:
    """As OpenAI refuses a parameter, or every value of it but one."""
    message = f"Unsupported parameter: '{name}' is not supported with this model."
    error = {"message": message, "type": "invalid_request_error", "param": name, "code": "unsupported_parameter"}
    return lambda body: refused({"error": error}) if name in body and body[name] != value else None


def pydantic_words(*names: str) -> Rule:
    """As servers of FastAPI refuse fields that they don't know, with the request in the message."""

    def rule(body: Body) -> Answer | None:
        found = [
            {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted", "input": 0}
            for name in names
            if name in body
        ]
        return refused({"detail": found}, 422) if found else None

    return rule


def plain_words(**texts: str) -> Rule:
    """As gateways refuse: a sentence."""
    return lambda body: next((refused(text.encode()) for name, text in texts.items() if name in body), None)


def no_system(body: Body) -> Answer | None:
    has_one = body["messages"][0]["role"] == "system"
    return refused({"object": "error", "message": "System role not supported", "code": 400}) if has_one else None


def at_most_two(body: Body) -> Answer | None:
    if body.get("top_logprobs", 0) <= 2:
        return None
    text = f"Requested sample logprobs of {body['top_logprobs']}, which is greater than max allowed: 2"
    return refused({"error": {"message": text, "type": "BadRequestError", "code": 400}})


def in_parts(body: Body) -> Body:
    """A reply whose content is a list."""
    made = verdict(body)
    message = made["choices"][0]["message"]
    message["content"] = [{"type": "text", "text": message["content"]}]
    return made


def without_logprobs(body: Body) -> Body:
    made = verdict(body)
    made["choices"][0]["logprobs"] = None
    return made


def reasoning(body: Body) -> Body:
    """Spends its tokens on a thought of 200 before it answers."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or 10_000
    made = without_logprobs(body)
    choice, used = made["choices"][0], min(limit, 201)
    choice["message"]["reasoning_content"] = "hmm " * min(limit, 200)
    if limit <= 200:
        choice["message"]["content"], choice["finish_reason"] = None, "length"
    return {**made, "usage": {"prompt_tokens": 10, "completion_tokens": used, "total_tokens": 10 + used}}


def streamed(body: Body) -> Answer:
    """A verdict in server-sent events; nothing but those."""
    if not body.get("stream"):
        return refused({"error": {"message": "This model only supports streaming: stream must be true"}})
    made = verdict(body)
    choice = made.pop("choices")[0]
    usage = made.pop("usage")
    text = choice["message"]["content"]
    deltas: list[Mapping[str, Any]] = [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None},
        {"index": 0, "delta": {"content": text}, "logprobs": choice["logprobs"], "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    ]
    chunks = [{**made, "object": "chat.completion.chunk", "choices": [delta]} for delta in deltas]
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**made, "choices": [], "usage": usage})
    events = [": keep-alive", *(f"data: {json.dumps(chunk)}" for chunk in chunks), "data: [DONE]", ""]
    return 200, "\r\n\r\n".join(events).encode(), {"Content-Type": "text/event-stream"}


class Limited:
    """Takes `calls` in a window of `seconds`, and refuses the others in one of three ways."""

    def __init__(self, calls: int, seconds: float, how: str) -> None:
        self._calls, self._seconds, self._how = calls, seconds, how
        self._began = self._count = 0.0
        self._lock = threading.Lock()

    def __call__(self, body: Body) -> Answer:
        with self._lock:
            now = time.monotonic()
            if now >= self._began + self._seconds:
                self._began, self._count = now, 0
            self._count += 1
            left = self._began + self._seconds - now
            if self._count <= self._calls:
                return verdict(body)
        headers, error = {}, {"message": "Rate limit reached"}
        if self._how == "header":
            headers = {"x-ratelimit-reset-requests": f"{left * 1000:.0f}ms", "x-ratelimit-remaining-requests": "0"}
        elif self._how == "words":
            error["message"] += f" for requests per min (RPM). Please try again in {left:.3f}s."
        return 429, {"error": error}, headers
