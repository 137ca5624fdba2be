"""What a server's reply must look like: the one place where JSON of a server becomes values that are kept.

A reply that is no JSON, holds numbers out of range or lacks what was asked for is a ValueError, in words for the user.
Every text that leaves this module has passed `clean`, which masks the key.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from harness.outside import parse_json
from harness.types import LARGEST_LOGPROB, MOST_TOKENS, FinishReason, JudgeReply

T = TypeVar("T")
Clean = Callable[[str], str]

LONGEST_TEXT = 1 << 20
"""Characters of the longest text of a reply."""
LONGEST_NAME = 200
"""Characters of the longest model's name, fingerprint or token that is kept."""
MOST_VALUES = 1_000_000
"""The largest number of values in a reply: 20 log-probabilities each of 4,096 tokens are 800,000. Each takes up to 200
bytes of memory."""
MOST_ALTERNATIVES = 1_000
NO_PROBABILITY = -9999.0
"""The log-probability of a token without probability, as vLLM and OpenAI write it."""
LARGEST_SCORE = 1e6
UNFINISHED = frozenset({"abort", "aborted", "cancelled", "error"})
"""Finish reasons of a text that the server didn't finish."""


class Origin(NamedTuple):
    """Which model a server says has answered: `model`, and its `system_fingerprint`. None: it doesn't say."""

    model: str | None
    fingerprint: str | None


class Chat(NamedTuple):
    """A chat completion. `logprobs`: of the first token's alternatives. Tokens are None if the server doesn't count
    them."""

    text: str
    logprobs: dict[str, float] | None
    prompt_tokens: int | None
    completion_tokens: int | None
    origin: Origin


class Sample(NamedTuple):
    """A sampled text. `tokens` is None if the server doesn't count them."""

    text: str
    finish_reason: FinishReason
    tokens: int | None
    origin: Origin


def read_json(content: bytes, read: Callable[[Any], T]) -> T:
    """`read` of a reply's JSON; infinity and NaN are floats. Raises ValueError."""
    if sum(content.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:
        raise ValueError(f"the server's reply holds more than {MOST_VALUES:,} values")
    try:
        value = parse_json(content, nan="keep")
    except ValueError as error:
        start = content[:80].decode("utf-8", "replace").strip()
        what = "is empty" if not content.strip() else f"is not valid JSON ({error}): {start}"
        raise ValueError(f"the server's reply {what}") from None
    return read(value)


def chat(body: Any, clean: Clean) -> Chat:
    """A judge's reply. One that counts its tokens was paid for, and may lack a message or a text. Raises ValueError for
    anything else than a complete chat completion."""
    choices, usage = at(body, "choices"), at(body, "usage")
    tokens = [_count(at(usage, "prompt_tokens")), _count(at(usage, "completion_tokens"))]
    counted = None not in tokens
    message = at(choices, 0, "message")
    if not isinstance(choices, list) or not (counted or isinstance(message, Mapping)):
        raise _not_a(body, "chat completion")
    _finish(at(choices, 0, "finish_reason"))
    texts = (_text(at(message, "content")), _text(at(message, "refusal")))
    return Chat(
        text=_kept(next((text for text in texts if text), ""), clean),
        logprobs=_logprobs(at(choices, 0, "logprobs", "content", 0, "top_logprobs"), clean),
        prompt_tokens=tokens[0] if counted else None,
        completion_tokens=tokens[1] if counted else None,
        origin=origin(body, clean),
    )


def sample(body: Any, clean: Clean, *, is_chat: bool) -> Sample:
    """A generator's reply, of a conversation or of a text that was continued. Raises ValueError unless it has a text;
    a conversation's may be null, where the limit was reached before the answer began."""
    choice = at(body, "choices", 0)
    if not isinstance(choice, Mapping) or (is_chat and not isinstance(at(choice, "message"), Mapping)):
        raise _not_a(body, "completion with a choice")
    text = _text(at(choice, "message", "content") if is_chat else at(choice, "text"))
    if text is None and not is_chat:
        raise _not_a(body, "completion with a text")
    return Sample(
        text=_kept(text or "", clean),
        finish_reason=_finish(at(choice, "finish_reason")),
        tokens=_count(at(body, "usage", "completion_tokens")),
        origin=origin(body, clean),
    )


def numbers(value: Any) -> list[float]:
    """A number, or a list of numbers; null and NaN are NaN. Raises ValueError for anything else, and for numbers that
    no reward model gives."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(x is None or (isinstance(x, int | float) and not isinstance(x, bool)) for x in values):
        raise ValueError("expected numbers")
    scores = [math.nan if x is None else float(x) for x in values]
    if any(abs(x) > LARGEST_SCORE for x in scores):
        raise ValueError(f"expected numbers of at most {LARGEST_SCORE:,.0f}")
    return scores


def shares(reply: JudgeReply, choices: Sequence[str]) -> list[float] | None:
    """The probabilities of the choices, normalised; None if the reply lacks one of them, or they all are 0."""
    if reply.logprobs is None or not set(choices) <= set(reply.logprobs):
        return None
    probabilities = [math.exp(reply.logprobs[choice]) for choice in choices]
    total = sum(probabilities)
    return [p / total for p in probabilities] if total > 0 else None


def origin(body: Any, clean: Clean) -> Origin:
    """Which model has answered, where a reply says so by short texts."""
    names = (at(body, "model"), at(body, "system_fingerprint"))
    model, fingerprint = (
        _kept(name, clean) if isinstance(name, str) and 0 < len(name) <= LONGEST_NAME else None for name in names
    )
    return Origin(model, fingerprint)


def answering(model: str | None, fingerprint: str | None) -> str | None:
    """The model that answered and its fingerprint, in one text; None if the server names none."""
    return " ".join(name for name in (model, fingerprint) if name) or None


def at(value: Any, *path: str | int) -> Any:
    """The value at a path in nested JSON; None if there is no such path."""
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def detail(body: Any, depth: int = 6) -> str:
    """The message in an error's body, in any of the usual shapes; empty if there is none. `depth`: of nesting."""
    if isinstance(body, str):
        return body.strip()
    if not depth:
        return ""
    if isinstance(body, list):
        return "; ".join(text for item in body[:3] if (text := detail(item, depth - 1)))
    names = ("message", "msg", "detail", "error", "errors", "error_description", "title", "reason", "code", "type")
    values = [body[name] for name in names if name in body] if isinstance(body, Mapping) else []
    return next((text for value in values if (text := detail(value, depth - 1))), "")


def _not_a(body: Any, what: str) -> ValueError:
    text = detail(at(body, "error")) or detail(at(body, "detail"))
    return ValueError(f"the server's reply is not a {what}{f': {text}' if text else ''}")


def _kept(text: str, clean: Clean) -> str:
    """A text that can be stored: without the key, and without lone surrogates, which UTF-8 can't hold."""
    return clean(text.encode("utf-8", "replace").decode())


def _text(content: Any) -> str | None:
    """A message's text, also one in parts. Raises ValueError for what is neither a text nor null."""
    if isinstance(content, list):
        texts = [at(part, "text") for part in content if at(part, "type") == "text"]
        content = "".join(text for text in texts if isinstance(text, str))
    if content is None:
        return None
    if not isinstance(content, str):
        raise ValueError(f"the reply's text is of type {type(content).__name__}; expected a string")
    if len(content) > LONGEST_TEXT:
        raise ValueError(f"the reply's text has {len(content):,} characters; expected at most {LONGEST_TEXT:,}")
    return content


def _count(value: Any) -> int | None:
    """A number of tokens; None for anything else, so that its price is unknown rather than wrong."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else None


def _finish(reason: Any) -> FinishReason:
    """Raises ValueError for a reason that isn't a text, or says that the text isn't whole."""
    if reason is not None and not isinstance(reason, str):
        raise ValueError(f"the reply's finish_reason is of type {type(reason).__name__}; expected a string")
    if reason in UNFINISHED:
        raise ValueError(f"the server didn't finish its reply (finish_reason: {reason})")
    return "length" if reason == "length" else "stop"


def _logprobs(top: Any, clean: Clean) -> dict[str, float] | None:
    """Log-probabilities by token. For tokens without probability some servers write -9999, null, -inf or NaN. Raises
    ValueError for what can't be log-probabilities."""
    if not isinstance(top, list) or not top:
        return None
    logprobs: dict[str, float] = {}
    for entry in top[:MOST_ALTERNATIVES]:
        token, logprob = at(entry, "token"), at(entry, "logprob")
        if not isinstance(token, str) or len(token) > LONGEST_NAME:
            raise ValueError("a token of the reply's log-probabilities is not a short string")
        if isinstance(logprob, bool) or not isinstance(logprob, int | float | None):
            raise ValueError(f"a log-probability of the reply is of type {type(logprob).__name__}")
        if logprob is None or math.isnan(logprob) or logprob <= NO_PROBABILITY:
            logprob = NO_PROBABILITY
        if logprob > LARGEST_LOGPROB:
            raise ValueError(f"a log-probability of the reply is {logprob:g}; expected at most 0")
        logprobs[_kept(token, clean)] = float(logprob)
    return logprobs
