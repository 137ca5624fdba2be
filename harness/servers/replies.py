"""What a server's reply must look like: the one place where JSON of a server becomes values that are kept.

A reply that is no JSON, holds numbers out of range or lacks what was asked for is a ValueError, in words for the user.
Every text that leaves this module has passed `clean`, which masks the key.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from harness.outside import parse_json
from harness.servers.messages import after_thoughts, said, text_of, token_at
from harness.types import LARGEST_LOGPROB, MOST_TOKENS, FinishReason, JudgeReply

T = TypeVar("T")
Clean = Callable[[str], str]
Place = Callable[[str], int | None]
"""Where in an answer its choice begins, in characters; None if it can't be told."""

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
    """A chat completion. `text`: what follows its last thought; empty if the last thought doesn't end. `logprobs`: of
    the alternatives to the token at the choice's place. Tokens are None if the server doesn't count them. `thought`:
    characters of thoughts. `cut`: it reached its token limit. `unread`: why there is no text, if one was expected."""

    text: str
    logprobs: dict[str, float] | None
    prompt_tokens: int | None
    completion_tokens: int | None
    origin: Origin
    thought: int
    cut: bool
    unread: str | None


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


def chat(body: Any, clean: Clean, place: Place = lambda answer: 0) -> Chat:
    """A judge's reply. One that counts its tokens was paid for, and may lack a message or a text. Raises ValueError for
    anything else than a complete chat completion."""
    choices, usage = at(body, "choices"), at(body, "usage")
    tokens = [_count(at(usage, "prompt_tokens")), _count(at(usage, "completion_tokens"))]
    counted = None not in tokens
    message = at(choices, 0, "message")
    if not isinstance(choices, list) or not (counted or isinstance(message, Mapping)):
        raise _not_a(body, "chat completion")
    cut = _finish(at(choices, 0, "finish_reason")) == "length"
    whole = said(message)
    reasoned = _count(at(usage, "completion_tokens_details", "reasoning_tokens")) or 0
    called = text_of(at(message, "tool_calls", 0, "function", "arguments"))
    refusal = text_of(at(message, "refusal"))
    text = called or whole.answer or ("" if whole.inside else refusal) or ""
    has_thought = bool(reasoned or whole.aside or whole.inside)
    unread = why_empty(tokens[1], cut=cut, thought=has_thought, unfinished=whole.unfinished)
    entries, index = at(choices, 0, "logprobs", "content"), None
    if text == whole.answer and (offset := place(text)) is not None:
        index = token_at(entries, whole, offset, reasoned=reasoned > 0)
    return Chat(
        text=_kept(text, clean),
        logprobs=None if index is None else _logprobs(at(entries, index, "top_logprobs"), clean),
        prompt_tokens=tokens[0] if counted else None,
        completion_tokens=tokens[1] if counted else None,
        origin=origin(body, clean),
        thought=len(whole.thought),
        cut=cut,
        unread=None if text.strip() else unread,
    )


def why_empty(tokens: int | None, *, cut: bool, thought: bool, unfinished: bool) -> str | None:
    """Why a reply has no text, where a token limit or a thought is the reason. `tokens`: of the reply."""
    how = "give the judge more max_tokens, or a lower reasoning_effort"
    spent = f", after {tokens:,} tokens" if tokens else ""
    if unfinished or (thought and cut):
        return f"the reply ended in its thought{spent}; {how}"
    if thought:
        return "the reply has a thought and no answer"
    return f"the reply has no text at its token limit{spent}: does the model reason first? {how}" if cut else None


def sample(body: Any, clean: Clean, *, is_chat: bool) -> Sample:
    """A generator's reply, of a conversation or of a text that was continued. Raises ValueError unless it has a text;
    a conversation's may be null, where the limit was reached before the answer began."""
    choice = at(body, "choices", 0)
    if not isinstance(choice, Mapping) or (is_chat and not isinstance(at(choice, "message"), Mapping)):
        raise _not_a(body, "completion with a choice")
    text = said(at(choice, "message")).content if is_chat else text_of(at(choice, "text"))
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


def answer_only(reply: JudgeReply) -> JudgeReply:
    """A reply without the thoughts in its text, if they are still there: judges of other packages may leave them, and
    journals from before they were taken out. Its log-probabilities would be those of a thought's first token."""
    parts = after_thoughts(reply.text)
    if reply.error is not None or parts.answer == reply.text:
        return reply
    unread = None if parts.answer else why_empty(reply.completion_tokens, cut=True, thought=True, unfinished=True)
    thought = max(reply.thought, len(parts.thought))
    return reply.model_copy(update={"text": parts.answer, "logprobs": None, "thought": thought, "unread": unread})


def settled(replies: Sequence[JudgeReply]) -> list[JudgeReply]:
    """Replies to one kind of request by one judge. Where others end a thought before they answer, one that was cut at
    its limit without having shown a thought ends in its own: the prompt opens it, and nothing marks it."""
    if not any(reply.thought and reply.text for reply in replies):
        return list(replies)
    return [_thinking(r) if r.cut and not r.thought and r.unread is None else r for r in replies]


def _thinking(reply: JudgeReply) -> JudgeReply:
    unread = why_empty(reply.completion_tokens, cut=True, thought=True, unfinished=True)
    fields = {"text": "", "logprobs": None, "choice": None, "thought": len(reply.text), "unread": unread}
    return reply.model_copy(update=fields)


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
