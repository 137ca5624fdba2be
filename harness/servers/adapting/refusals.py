"""Which parameter of a request a server's refusal is about, in whatever words it says so.

A field that names it counts most (OpenAI's `param`, pydantic's `loc`, Google's `field`), then its name as a whole word
of the message. A refusal of a prompt's length is about the prompt, although it often names the token limit as well.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from harness.outside import parse_json

ABOUT_ALL = frozenset({401, 402, 403, 407, 408, 409, 425, 429})
"""Client errors about the key, the account or the pace, whatever they mention."""
PROMPT = frozenset({"model", "messages", "prompt", "input", "query", "prompts"})
"""What a request is about: as words too common to say anything."""
SYSTEM, STREAM = "system", "stream"
"""Not a parameter of the request: its system message; that it isn't streamed."""
LONGEST_MESSAGE = 2_000
"""Characters of a message that are searched. Some servers repeat the whole request after it."""

_LENGTH = re.compile(
    r"context[ _-]?(length|window|size|limit)|maximum context|max[ _-]model[ _-]len"
    r"|\b(prompt|inputs?|messages?|conversation|text|string|sequence|request|content)\b`?'?\W{0,3}(is|are|was)?\s*"
    r"(much |far )?too (long|large|many tokens)"
    r"|too many (input |prompt )?tokens|input[ _](length|tokens?)|`?inputs`? tokens|(prompt|input) (contains|has) \d+"
    r"|(prompt|input|messages?)[^.]{0,60}(exceeds?|longer than|above)\b"
    r"|reduce (the |your )?(length|size|prompt|input|messages?)|(above|exceeds?)[ _](max|the)[ _]?(maximum )?length",
    re.IGNORECASE,
)
_REFUSING = re.compile(
    r"support|allow|permit|accept|unknown|unrecogni|invalid|illegal|must|expect|only|deprecat|enable|disable|extra"
    r"|forbid|unexpected|should|please|can ?not|can't|doesn't|not |between|at most|less|greater|larger|exceed"
    r"|requir|need|available|range|maximum|minimum|either|unable|reject|refus|remove|omit|fail|too (small|low|high)"
    r"|\b(nicht|ung[üu]ltig|non|pas|no|não)\b|[^\x00-\u02ff]",
    re.IGNORECASE,
)
_LISTED = re.compile(
    r"(?<!not )(?<!no )\b(supported|allowed|accepted|valid|available|permitted|known|recogni[sz]ed)\s+"
    r"(parameters?|params?|fields?|arguments?|args|keys?|options?|properties|values)\b[^;\n]*",
    re.IGNORECASE,
)
"""A list of what is supported instead."""
_TOGETHER = re.compile(
    r"\b(both|together|either|mutually|only one of|at the same time|simultaneously)\b", re.IGNORECASE
)
_SYSTEM = re.compile(
    r"\bsystem\b.{0,40}\b(role|messages?|prompts?|instructions?|tag)\b|\b(roles?|messages?|tag)\b.{0,60}\bsystem\b"
    r"|\bdeveloper (instruction|message|role)|roles? must alternate|must alternate|start with a user"
    r"|\bonly user\b[^.]{0,40}\broles\b",
    re.IGNORECASE | re.DOTALL,
)
_TEMPLATE = re.compile(
    r"system (role|messages?) (is |are )?not supported|roles must alternate|unexpected message role"
    r"|\bonly user\b[^.]{0,40}\broles are supported",
    re.IGNORECASE,
)
"""What chat templates raise, which some servers report as their own failure."""
_WRAPPED = re.compile(r"\b(error code|status code|status|http)\W{1,3}(400|422)\b", re.IGNORECASE)
"""A gateway's failure that is a refusal of the server behind it."""
_STREAM = re.compile(r"(?<![a-z0-9_])stream(?:ing|ed)?(?![a-z0-9_])", re.IGNORECASE)
_WORDS = {
    "max_tokens": r"max[ _-]?(?:new[ _-]?|output[ _-]?)?tokens",
    "max_completion_tokens": r"max[ _-]?(?:completion|new|output)[ _-]?tokens",
    "top_logprobs": r"top[ _-]?log[ _-]?probs?|top[ _-]n[ _-]tokens",
    "logprobs": r"(?:(?:response|output)[ _-]?)?log[ _-]?prob(?:s|abilit(?:y|ies))?",
    "stop": r"stop(?:[ _-]?(?:sequences?|words?|strings?))?",
}
"""Other names of parameters, as they occur in messages."""
_LEAST_MEANT = ("seed", "stream_options", "activation", "use_activation", "top_p", "stop", "top_logprobs")
"""Of several parameters that don't go together, these are given up first."""


class Refusal(NamedTuple):
    """`parameter`: as it was sent, or SYSTEM, or STREAM (it must be streamed). `text`: the whole message."""

    parameter: str
    text: str


def refusal_of(status: int, body: Any, sent: Mapping[str, Any]) -> Refusal | None:
    """What a refused call was refused for. None if the error is not about a parameter that this call sent. `body`: of
    the error. `sent`: the request."""
    text = " ".join(_messages(body))[:LONGEST_MESSAGE]
    if about_length(text):
        return None
    has_system = any(_role(message) == "system" for message in sent.get("messages") or ())
    if status >= 500 and has_system and _TEMPLATE.search(text):
        return Refusal(SYSTEM, text)
    if status == 403 and "logprobs" in sent and _word("logprobs").search(text):
        return Refusal("logprobs", text)
    if status in ABOUT_ALL or not (400 <= status < 500 or status == 501 or _WRAPPED.search(text)):
        return None
    for field in _fields(body):
        name = _sent_name(field, sent)
        if name == "messages" and has_system and re.search(r"system|developer|alternate", text, re.IGNORECASE):
            return Refusal(SYSTEM, text)
        if name in PROMPT:
            return None
        if name is not None:
            return Refusal(name, text)
        if field.lower() == STREAM:
            return Refusal(STREAM, text)
    if not _REFUSING.search(text):
        return None
    named = _named(_LISTED.sub(" ", text), sent.keys() - PROMPT) or _named(text, sent.keys() - PROMPT)
    if named and _TOGETHER.search(text):
        named.sort(key=lambda name: _LEAST_MEANT.index(name) if name in _LEAST_MEANT else len(_LEAST_MEANT))
    if named:
        return Refusal(named[0], text)
    if has_system and _SYSTEM.search(text):
        return Refusal(SYSTEM, text)
    return Refusal(STREAM, text) if _STREAM.search(text) and not sent.get("stream") else None


def about_length(text: str) -> bool:
    """Whether a message says that a prompt is too long."""
    return bool(_LENGTH.search(text))


def bound_in(text: str, below: float) -> int | None:
    """The largest value that a message allows for a parameter that was sent as `below`; None if it names none."""
    if match := re.search(r"(?:less|fewer|lower|smaller) than (\d+)\b", text):  # "less than or equal to" is below
        return int(match[1]) - 1 if int(match[1]) - 1 < below else None
    if not re.search(
        r"at most|<=|≤|equal to|max|between|exceed|range|up to|than|too (large|high|many)|limit", text, re.I
    ):
        return None
    ranges = re.findall(r"(?<![\w.])\d+\s*(?:-|–|to|and|\.\.+|,)\s*(\d+)(?![\w.]*\w)", text)
    single = re.findall(r"(?<![\w.-])\d+(?![\w-]|\.\d)", text)
    values = [int(value) for value in [*ranges, *single] if len(value) < 10]
    return max((value for value in values if 1 <= value < below), default=None)


def least_in(text: str, above: float) -> int | None:
    """The smallest value that a message allows for a parameter that was sent as `above`; None if it names none."""
    if match := re.search(r"(?:greater|larger|more|higher) than (\d{1,4})\b", text, re.IGNORECASE):
        return int(match[1]) + 1 if above <= int(match[1]) < 1_024 else None
    if not re.search(
        r"at least|>=|≥|minimum|greater than or equal|below|too (small|low)|between|range", text, re.IGNORECASE
    ):
        return None
    values = [int(value) for value in re.findall(r"(?<![\w.-])\d{1,4}(?![\w-]|\.\d)", text)]
    return min((value for value in values if above < value <= 1_024), default=None)


def _named(text: str, names: Iterable[str]) -> list[str]:
    """The names that occur in a text as whole words, in order."""
    found = {name: match.start() for name in names if (match := _word(name).search(text))}
    return sorted(found, key=found.__getitem__)


@cache
def _word(name: str) -> re.Pattern[str]:
    """A parameter's name in a text: `top_p`, `top-p`, `topP` or "top p"."""
    spelt = _WORDS.get(name) or "[ _-]?".join(re.escape(part) for part in name.split("_"))
    return re.compile(rf"(?<![A-Za-z0-9_])(?:{spelt})(?!-?[A-Za-z0-9_])", re.IGNORECASE)


def _sent_name(field: str, sent: Mapping[str, Any]) -> str | None:
    """The parameter that a field like `body.max_tokens`, `generation_config.topP` or `messages[0].role` is about."""
    parts = [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part).lower() for part in re.findall(r"\w+", field)]
    return next((part for part in parts if part in sent), None)


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, Mapping) else None


def _fields(body: Any, depth: int = 6) -> Iterator[str]:
    """What an error's body says which part of the request is at fault."""
    if isinstance(body, str) and body.lstrip().startswith(("{", "[")) and depth:
        try:
            yield from _fields(parse_json(body.encode()), depth - 1)
        except ValueError:
            return
    elif isinstance(body, list) and depth:
        for item in body[:10]:
            yield from _fields(item, depth - 1)
    elif isinstance(body, Mapping) and depth:
        for name in ("param", "parameter", "loc", "field", "property"):
            value = body.get(name)
            if isinstance(value, list | tuple):
                value = ".".join(str(part) for part in value[:10])
            if isinstance(value, str) and value:
                yield value[:200]
        for value in body.values():
            yield from _fields(value, depth - 1)


def _messages(body: Any, depth: int = 6) -> Iterator[str]:
    """All texts of an error's body, but for what pydantic repeats of the request."""
    if isinstance(body, str):
        yield body
    elif isinstance(body, list) and depth:
        for item in body[:10]:
            yield from _messages(item, depth - 1)
    elif isinstance(body, Mapping) and depth:
        for name, value in body.items():
            if name == "ctx" and isinstance(value, Mapping):
                yield from (f"{key} {limit}" for key, limit in value.items() if isinstance(limit, int | float | str))
            elif name not in ("input", "url", "request_id"):
                yield from _messages(value, depth - 1)
