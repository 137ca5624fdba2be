"""Validated cells of rows in other trainers' formats. All `*_cell` functions raise DataError naming the row."""

import math
from typing import Any

from harness.data.columns.contents import Unreadable, plain_messages
from harness.data.conversations import Turn, turns_in, without_end_tokens
from harness.errors import DataError
from harness.types import Message, Messages


def as_dicts(messages: Messages) -> list[dict[str, str]]:
    """Messages as JSON-able objects."""
    return [m.model_dump() for m in messages]


def messages_cell(value: Any, place: str, column: str) -> Messages:
    """A prompt: a text or a list of messages."""
    value = _read(value, place, column) or value
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    try:
        value = value[:-1] if value and _is_reply_to_come(value[-1]) else value
        messages = tuple(Message.model_validate({"role": m["role"], "content": m["content"]}) for m in value)
    except (TypeError, KeyError, ValueError):
        raise DataError(f"{place}: {column}: expected a text or a list of {{role, content}}") from None
    if not messages or messages[-1].role != "user":
        raise DataError(f"{place}: {column}: expected the last message to be the user's")
    return messages


def answer_cell(value: Any, place: str, column: str) -> str:
    """A response: a text, or a list of messages of which it is the last."""
    value = _read(value, place, column) or value
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        value = value[-1].get("content")
    if not isinstance(value, str):
        raise DataError(f"{place}: {column}: expected a text or a list of messages")
    return without_end_tokens(value)


def _read(value: Any, place: str, column: str) -> list[Turn]:
    """The messages of a cell, in plain form; empty for a text that is none. Raises DataError."""
    try:
        if isinstance(value, str):
            return turns_of_prompt(value, column)
        plain = plain_messages({column: value}, [column])[0][column]
    except Unreadable as error:
        raise DataError(f"{place}: {error}") from None
    return plain if isinstance(plain, list) else []


def turns_of_prompt(text: str, column: str) -> list[Turn]:
    """The messages that a text holds in a chat template, as a list that became text, or as a transcript that ends where
    the assistant's reply begins; empty for any other text. Raises Unreadable."""
    found = turns_in(text, column)
    if found is None or (found[1].startswith("transcripts") and not _is_reply_to_come(found[0][-1])):
        return []
    return found[0]


def _is_reply_to_come(turn: Any) -> bool:
    return bool(turn == {"role": "assistant", "content": ""})


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def score_cell(value: Any, place: str, column: str = "score") -> float | None:
    """A finite score; None if there is none."""
    if value is None:
        return None
    if not is_number(value):
        raise DataError(f"{place}: {column}: expected a finite number, got {repr(value)[:40]}")
    return float(value)
