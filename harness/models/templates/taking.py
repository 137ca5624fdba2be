"""What a chat template takes: system messages or none, contents as texts or as lists of parts.

Gemma 2 and the first Mistrals refuse a system message, others leave it out without a word, and templates of some
multimodal models read lists of parts alone. It is found by rendering a short conversation with every one of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from harness.errors import ModelError
from harness.types import Message

_SYSTEM = Message(role="system", content="harness-system-message")
_USER = Message(role="user", content="harness-user-message")


class Takes(NamedTuple):
    """What a template takes. `system`: what it does with a system message before a user's turn; `parts`: whether it
    takes a message's content as a list of parts alone."""

    system: Literal["written", "refused", "left out"] = "written"
    parts: bool = False


def probed(rendered: Callable[[Sequence[Message], bool], str]) -> Takes:
    """What a template takes, by what it writes. `rendered`: renders messages, with contents in parts or not."""

    def text(messages: Sequence[Message], parts: bool) -> str | None:
        try:
            return rendered(messages, parts)
        except ModelError:
            return None

    def takes_user(parts: bool) -> bool:
        return _USER.content in (text([_USER], parts) or "")

    parts = not takes_user(False)
    if parts and not takes_user(True):
        return Takes()  # it takes nothing, and says why where a conversation is rendered
    whole = text([_SYSTEM, _USER], parts)
    if whole is None:
        return Takes("refused", parts)
    return Takes("written" if _SYSTEM.content in whole else "left out", parts)


def folded(messages: Sequence[Message]) -> list[Message]:
    """The messages with every system message in front of the user's turn that follows it, a blank line between them.
    One that no user's turn follows stays."""
    kept: list[Message] = []
    waiting: list[Message] = []
    for message in messages:
        if message.role == "system":
            waiting.append(message)
        elif waiting and message.role == "user":
            texts = [m.content for m in (*waiting, message) if m.content.strip()]
            kept.append(message.model_copy(update={"content": "\n\n".join(texts)}))
            waiting = []
        else:
            kept += [*waiting, message]
            waiting = []
    return [*kept, *waiting]


def as_rows(messages: Sequence[Message], parts: bool) -> list[dict[str, Any]]:
    """The messages as `apply_chat_template` takes them."""
    rows = [m.model_dump() for m in messages]
    if parts:
        rows = [row | {"content": [{"type": "text", "text": row["content"]}]} for row in rows]
    return rows
