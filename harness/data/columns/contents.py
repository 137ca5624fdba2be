"""Messages as other tools write them, in the form {role, content: text}.

ShareGPT's {from: human, value}, roles such as gpt, contents that are lists of parts, and a single message in place of a
list. What text alone can't say is refused in words: images and other media, calls of tools and their results, and
answers that are already begun.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from harness.data.columns.written import is_blank, value_in

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "chatbot", "bot", "ai"), "assistant"),
}
_OF_TOOLS = ("tool", "tools", "function", "function_call", "function_response", "observation", "ipython", "tool_call")
_CALLS = ("tool_calls", "function_call")
_TEXT = ("text", "input_text", "output_text")
_BEGUN = ("prefix", "prefill", "partial")
"""Fields by which servers mark a message that the answer continues."""


class Unreadable(Exception):
    """A row can't be read as a pair. The text says what is wrong and what was expected."""


def plain_messages(row: dict[str, Any], columns: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """(the row with plain messages in `columns`, how the others were written). Other fields of messages stay where they
    are. Raises Unreadable."""
    styles: list[str] = []
    changed: dict[str, Any] = {}
    for column in columns:
        value = row.get(column)
        if isinstance(value, Mapping) and is_message(value):
            value, styles = [value], [*styles, "single messages"]
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            changed[column] = [_message(item, f"{column}.{i}", styles) for i, item in enumerate(value)]
    return {**row, **changed}, list(dict.fromkeys(styles))


def whole_messages(row: dict[str, Any], prompt: str | None, answers: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """(the row with a message in place of a prompt, or of both answers, that is the text of one; how they were
    written). A list of messages that became text is read by `harness.data.conversations`."""
    changed = {}
    for columns, role in (([prompt] if prompt else [], "user"), (list(answers), "assistant")):
        found = {column: _message_in(row.get(column)) for column in columns}
        if all(role_of(message) == role for message in found.values()):
            changed.update(found)
    return {**row, **changed}, ["messages that became text"] if changed else []


def _message_in(text: Any) -> Any:
    """The message that became text; None for any other value."""
    if not isinstance(text, str) or not text.lstrip().startswith("{") or not text.rstrip().endswith("}"):
        return None
    try:
        value = value_in(text)
    except ValueError:
        return None
    return value if is_message(value) else None


def is_message(value: Any) -> bool:
    """Whether a value is one message, in any of the forms."""
    return isinstance(value, Mapping) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys())


def role_of(message: Any) -> str | None:
    """A message's role: system, user or assistant; None for any other and for what is no message."""
    if not is_message(message):
        return None
    name = message.get("role", message.get("from"))
    return ROLES.get(name.lower()) if isinstance(name, str) else None


def _message(item: Mapping[str, Any], shown: str, styles: list[str]) -> dict[str, Any]:
    by_role = item.get("role") is not None
    keys = ("role", "content") if by_role or "from" not in item else ("from", "value")
    name = item.get(keys[0])
    if isinstance(name, str) and name.lower() in _OF_TOOLS:
        raise Unreadable(f"{shown}: a turn of '{name}': calls of tools and their results can't be read; remove the row")
    if begun := next((key for key in _BEGUN if item.get(key) is True), None):
        raise Unreadable(f"{shown}: {begun}: an answer that is already begun can't be read; remove the row")
    if calls := next((key for key in _CALLS if not is_blank(item.get(key))), None):
        raise Unreadable(f"{shown}: messages with {calls} can't be read; remove the row")
    role = ROLES.get(name.lower()) if isinstance(name, str) else None
    if keys[0] == "from":
        styles.append("messages {from, value}")
    elif role is not None and role != name:
        styles.append(f"messages of {name}")
    content = item.get(keys[1])
    if isinstance(content, list):
        content = _joined(content, shown)
        styles.append("contents as lists of parts")
    rest = {key: value for key, value in item.items() if key not in (*keys, "role", "content")}
    # An unknown role stays, and is named by whoever reads the message.
    given = {"role": role or name, "content": content}
    return {**rest, **{key: given[key] for key, old in zip(given, keys, strict=True) if old in item}}


def _joined(parts: list[Any], shown: str) -> str:
    """The texts of a content's parts one after the other, as chat templates write them."""
    texts = []
    for i, part in enumerate(parts):
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, Mapping) else None
        form = part.get("type", "text") if isinstance(part, Mapping) else "text"
        if form not in _TEXT:
            raise Unreadable(
                f"{shown}.content.{i}: a part of type {str(form)[:40]!r} can't be read; expected text alone"
            )
        if not isinstance(text, str):
            raise Unreadable(f"{shown}.content.{i}: expected {{type: text, text: ...}}")
        texts.append(text)
    return "".join(texts)
