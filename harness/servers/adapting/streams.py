"""A reply that came as a stream of server-sent events (`text/event-stream`), made into the one that it stands for."""

from collections.abc import Iterator, Mapping
from typing import Any

from harness.outside import parse_json

DONE = "[DONE]"
_LEFT_OUT = frozenset({"role", "tool_calls", "function_call"})


def is_stream(content: bytes) -> bool:
    """Whether a body is a stream rather than JSON."""
    return content.lstrip()[:8].startswith((b"data:", b"event:", b"id:", b"retry:", b":"))


def joined(content: bytes) -> dict[str, Any]:
    """The completion that a stream's chunks add up to: texts, reasoning and log-probabilities of the first choice, and
    what the chunks say of the whole. Raises ValueError for a stream that says it failed, or that isn't whole."""
    whole: dict[str, Any] = {}
    message: dict[str, Any] = {}
    logprobs: list[Any] = []
    text, finish, done = "", None, False
    for data in _events(content):
        if data == DONE:
            done = True
            break
        try:
            chunk = parse_json(data.encode(), nan="keep")
        except ValueError as error:
            raise ValueError(f"the server's stream is not valid JSON ({error}): {data[:80]}") from None
        if not isinstance(chunk, Mapping):
            raise ValueError("the server's stream is not one of completions")
        if chunk.get("error"):
            return {"error": chunk["error"]}
        whole |= {name: value for name, value in chunk.items() if name != "choices" and value is not None}
        for choice in _first_choices(chunk):
            _add(message, choice.get("delta") or choice.get("message"))
            text += choice["text"] if isinstance(choice.get("text"), str) else ""
            logprobs += _logprobs(choice)
            finish = choice.get("finish_reason") or finish
    if not done and finish is None:
        raise ValueError("the server's stream ended before the reply did")
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "text": text}
    choice |= {"finish_reason": finish, "logprobs": {"content": logprobs} if logprobs else None}
    return {**whole, "choices": [choice]}


def _events(content: bytes) -> Iterator[str]:
    """The data of each event; its lines are joined."""
    lines: list[str] = []
    text = content.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for line in [*text.split("\n"), ""]:
        if line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
        elif not line and lines:
            yield "\n".join(lines)
            lines = []


def _first_choices(chunk: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if isinstance(choice, Mapping) and not choice.get("index"):
            yield choice


def _add(message: dict[str, Any], delta: Any) -> None:
    """Add what a chunk brings: texts are continued, parts follow each other."""
    for name, value in delta.items() if isinstance(delta, Mapping) else ():
        if name in _LEFT_OUT or value is None:
            continue
        before = message.get(name)
        if isinstance(before, str) and isinstance(value, list):
            before = [{"type": "text", "text": before}]
        elif isinstance(before, list) and isinstance(value, str):
            value = [{"type": "text", "text": value}]
        if isinstance(before, str) and isinstance(value, str):
            value = before + value
        elif isinstance(before, list) and isinstance(value, list):
            value = [*before, *value]
        message[name] = value


def _logprobs(choice: Mapping[str, Any]) -> list[Any]:
    found = choice.get("logprobs")
    content = found.get("content") if isinstance(found, Mapping) else None
    return content if isinstance(content, list) else []
