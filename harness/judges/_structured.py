"""Replies of a judge as JSON of a schema, by `response_format`: one of a request's choices, or a stated probability."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.outside import parse_json
from harness.servers.replies import NO_PROBABILITY, Chat
from harness.types import JudgeRequest

EXPLAINED = 64
"""A prompt that allows a reply of so many tokens asks for an explanation too."""
ROOM = 64
"""Tokens that the JSON takes besides the explanation."""
_FENCED = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)
_DOUBLE = re.compile(r"\[\[|\]\]")


class _Form(NamedTuple):
    """What a reply has to look like. `key`: the field with the choice (`labels`: choices as the JSON has them)."""

    key: str
    labels: dict[Any, str]
    explained: bool
    kind: Mapping[str, Any]


def room(request: JudgeRequest) -> int:
    """Tokens that a reply in JSON may need."""
    return request.max_tokens + ROOM


def response_format(request: JudgeRequest) -> dict[str, Any]:
    """The field of that name in a request with choices. The prompt stays as it is; only where it asks for an
    explanation, there is a field for one, before the choice."""
    form = _form(request)
    properties: dict[str, Any] = {"explanation": {"type": "string"}} if form.explained else {}
    properties[form.key] = dict(form.kind)
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def place(request: JudgeRequest, answer: str) -> int | None:
    """Where in a reply the choice begins, in characters; None if it isn't there."""
    match = re.search(rf'"{re.escape(_form(request).key)}"\s*:\s*"?', answer)
    return match.end() if match else None


def read(request: JudgeRequest, chat: Chat) -> dict[str, Any]:
    """Fields of a JudgeReply: its `choice`, and `text` with the choice first (an explanation may name others), or its
    `logprobs` where the judge states them; or why it is `unread`."""
    form = _form(request)
    if chat.unread is not None or not chat.text.strip():
        return {"logprobs": None}
    fenced = _FENCED.match(chat.text.strip())
    try:
        value = parse_json(fenced[1] if fenced else chat.text)
    except ValueError:
        where = "which ends at its token limit" if chat.cut else "does the server know response_format?"
        return _unread(f"the reply is not the JSON that was asked for ({where}): {chat.text[:60]!r}")
    if not isinstance(value, Mapping) or form.key not in value:
        return _unread(f"the reply's JSON has no {form.key}: {chat.text[:60]!r}")
    given = value[form.key]
    number = not isinstance(given, bool) and isinstance(given, int | float) and math.isfinite(given)
    if request.asks == "probability":
        if not number or not 0 <= given <= 1:
            return _unread(f"the reply states {str(given)[:20]} as a probability; expected a number from 0 to 1")
        logs = [math.log(p) if p > 0 else NO_PROBABILITY for p in (1 - given, given)]
        return {"logprobs": dict(zip(request.choices, logs, strict=True)), "stated": True}
    if isinstance(given, bool | list | dict) or given not in form.labels:
        expected = ", ".join(map(str, form.labels))
        return _unread(f"the reply's {form.key} is {str(given)[:20]!r}; expected one of {expected}")
    choice, explanation = form.labels[given], value.get("explanation")
    told = _DOUBLE.sub(lambda m: m[0][0], explanation).strip() if isinstance(explanation, str) else ""
    parts = (told, choice) if request.asks == "last" else (choice, told)
    tokens = {int(token) if token.isdecimal() else token: x for token, x in (chat.logprobs or {}).items()}
    known = {form.labels[token]: x for token, x in tokens.items() if token in form.labels}
    return {
        "choice": choice,
        "text": "\n\n".join(part for part in parts if part),
        # Of the choice's own token, if the choice is one token; else the text is certain.
        "logprobs": known if choice in known else None,
    }


def _unread(reason: str) -> dict[str, Any]:
    return {"unread": reason, "logprobs": None}


def _form(request: JudgeRequest) -> _Form:
    if request.asks == "probability":
        return _Form(f"probability_that_{request.choices[1]}_is_better", {}, False, {"type": "number"})
    labels = {re.sub(r"^\W+|\W+$", "", choice) or choice: choice for choice in request.choices}
    explained = request.asks == "last" or request.max_tokens >= EXPLAINED
    if all(label.isdecimal() for label in labels):
        numbers = {int(label): choice for label, choice in labels.items()}
        bounds = {"type": "integer", "minimum": min(numbers), "maximum": max(numbers)}
        return _Form("rating", dict(numbers), explained, bounds)
    return _Form("answer", dict(labels), explained, {"type": "string", "enum": [*labels]})


def applies(request: JudgeRequest, structured: bool) -> bool:
    """Whether a reply to a request is to be JSON."""
    return bool(request.choices) and (structured or request.asks == "probability")
