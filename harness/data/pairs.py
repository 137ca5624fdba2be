"""Converts a row of a preference dataset, in any of the usual column layouts, into a pair.

Without a mapping (`Columns`), the layout is detected from the first row. `category` is kept, and `system` or
`system_prompt` becomes the system message if it isn't empty. Other columns are ignored and counted, except `history`
(earlier turns) and those that a prompt can't do without (`tools`, `images`), which make a row unreadable:

- `prompt`, or `question` (Intel/orca_dpo_pairs), with `chosen, rejected`: each a text or a list of {role, content}. In
  an answer that is a list, the last message is the answer and those before it must be the prompt. A text prompt may be
  one user turn of a longer conversation that both answers begin with; then that conversation is the prompt.
- the columns of OpenAI, ms-swift, LLaMA-Factory and Axolotl (`harness.data.columns.layouts`), with messages in any form
  of `harness.data.columns.contents`.
- `instruction, chosen, rejected`, optionally with `input`, which is appended to the instruction after an empty line.
- `chosen, rejected` alone: two conversations, as lists or as transcripts ("\\n\\nHuman: ...\\n\\nAssistant: ...").
  Their common beginning is the prompt (as in trl.extract_prompt), and each must have exactly one answer after it.

A text that is a conversation, in a chat template, as a transcript or as a list of messages that became text, is read as
its messages (`harness.data.conversations`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.data.columns.contents import Unreadable, plain_messages, whole_messages
from harness.data.columns.layouts import advice
from harness.data.conversations import MARKED_TURN, is_conversation
from harness.data.messages import unread, with_history, with_messages
from harness.errors import nearest, quoted
from harness.printable import printable
from harness.types import Message, Messages, PreferencePair, prompt_id

FORMS = (
    "prompt, chosen, rejected; or system, question, chosen, rejected; or instruction, input, chosen, rejected; "
    "or chosen, rejected as conversations"
)
_RANKINGS = {"simpo": "all_generated_responses", "nemo-rl": "completions", "nectar": "answers"}
"""A column by which rows in another trainer's format are recognised."""


class Columns(BaseModel):
    """The meaning of a set's columns. Give `prompt`, or `instruction` (and `input`); without either, `chosen` and
    `rejected` are whole conversations. Columns that aren't named are ignored; `chosen` and `rejected` have defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    prompt: str | None = Field(None, min_length=1)
    """The column with the prompt; without it and `instruction`, answers are whole conversations."""
    system: str | None = Field(None, min_length=1)
    """The column with the system message."""
    instruction: str | None = Field(None, min_length=1)
    """The column with the instruction, instead of a prompt."""
    input: str | None = Field(None, min_length=1)
    """The column with what the instruction is about."""
    chosen: str = Field("chosen", min_length=1)
    """The column with the better answer."""
    rejected: str = Field("rejected", min_length=1)
    """The column with the worse answer."""
    category: str | None = Field(None, min_length=1)
    """The column with the prompt's category."""

    @model_validator(mode="after")
    def _one_prompt(self) -> "Columns":
        if self.prompt is not None and self.instruction is not None:
            raise ValueError("`prompt` and `instruction` are two names for the prompt: give only one of them")
        if self.input is not None and self.instruction is None:
            raise ValueError("`input` belongs to an `instruction`: give both, or leave out `input`")
        return self


class UnknownColumns(Unreadable):
    """The expected columns are missing, so no row of the set can be read."""


def columns_of(row: dict[str, Any], columns: Columns | None) -> Columns:
    """The column mapping of a set, from its first row: `columns`, if they exist in the row; detected if that is None.
    Raises UnknownColumns."""
    if columns is not None:
        for role, column in columns.model_dump(exclude_none=True).items():
            if column not in row:
                raise UnknownColumns(
                    f"columns.{role}: there is no column {quoted(column)}; {printable(nearest(column, row), 300)}"
                )
        return columns
    prompt_column = next((c for c in ("prompt", "question", "instruction") if c in row), None)
    conversations = prompt_column is None and all(is_conversation(row.get(c)) for c in ("chosen", "rejected"))
    if not {"chosen", "rejected"} <= row.keys() or (prompt_column is None and not conversations):
        names = printable(", ".join(sorted(row)), 200) or "none"
        ranked = next((form for form, column in _RANKINGS.items() if column in row), None)
        hint = f"; convert it with harness import --format {ranked}" if ranked else advice(row)
        raise UnknownColumns(f"columns not recognised: expected {FORMS}; got {names}{hint}")
    if prompt_column == "instruction":
        return Columns(instruction=prompt_column, input="input", system="system", category="category")
    return Columns(prompt=prompt_column, system="system", category="category")


class PreparedRow(NamedTuple):
    """A row with messages in place of conversations that are written as text; how those were written; and the columns
    that hold something and are not read."""

    row: dict[str, Any]
    styles: list[str]
    ignored: list[str]


def prepared(row: dict[str, Any], columns: Columns, *, named: bool) -> PreparedRow:
    """A row as `to_pair` reads it. `named`: the user named the columns, and so means to ignore the others. Raises
    Unreadable."""
    prompt = columns.prompt or columns.instruction
    read = set(columns.model_dump(exclude_none=True).values())
    answers = (columns.chosen, columns.rejected)
    row, whole = whole_messages(row, prompt, answers)
    row, styles = plain_messages(row, [c for c in (prompt, *answers) if c])
    if not named:
        row, earlier = with_history(row, prompt)
        styles += earlier
        read |= {"history"}
    row, more = with_messages(row, prompt, answers)
    return PreparedRow(row, whole + styles + more, unread(row, frozenset(read)))


def to_pair(row: dict[str, Any], columns: Columns, source: str) -> PreferencePair:
    """The row's pair. Raises Unreadable."""
    system = _optional_text(row, columns.system) if columns.system else ""
    if columns.prompt or columns.instruction:
        messages, chosen, rejected = _explicit(row, columns, system)
    else:
        messages, chosen, rejected = _implicit(row, columns)
        messages = _with_system(system, messages)
    category = row.get(columns.category) if columns.category else None
    return PreferencePair(
        id=prompt_id(messages),
        messages=messages,
        chosen=chosen,
        rejected=rejected,
        source=source,
        category=category if isinstance(category, str) else None,
    )


def _with_system(system: str, messages: Messages) -> Messages:
    """The messages preceded by the system message, unless it is empty or they already have one."""
    if not system.strip() or messages[0].role == "system":
        return messages
    return (Message(role="system", content=system), *messages)


def _explicit(row: dict[str, Any], columns: Columns, system: str) -> tuple[Messages, str, str]:
    extra = _optional_text(row, columns.input) if columns.input else ""
    if columns.instruction and isinstance(row.get(columns.instruction), list):
        if extra.strip():
            raise Unreadable(f"{columns.input}: expected nothing beside a conversation in {columns.instruction}")
        messages = _prompt(row, columns.instruction)
    elif columns.instruction:
        text = _text(row, columns.instruction) + (f"\n\n{extra}" if extra.strip() else "")
        messages = (Message(role="user", content=text),)
    else:
        messages = _prompt(row, columns.prompt or "prompt")
        if isinstance(row[columns.prompt or "prompt"], str) and _longer(row, columns):
            longer, chosen, rejected = _implicit(row, columns)
            text = messages[0].content.strip()
            if all(m.role != "user" or m.content.strip() != text for m in longer):
                raise Unreadable(f"{columns.chosen}: expected the messages before the answer to contain the prompt")
            return _with_system(system, longer), chosen, rejected
    messages = _with_system(system, messages)
    return messages, _answer(row, columns.chosen, messages), _answer(row, columns.rejected, messages)


def _longer(row: dict[str, Any], columns: Columns) -> bool:
    """Whether both answers are preceded by more than one user turn."""
    answers = [row.get(columns.chosen), row.get(columns.rejected)]
    return all(isinstance(answer, list) and len(answer) > 2 for answer in answers)


def _prompt(row: dict[str, Any], column: str) -> Messages:
    if not isinstance(row.get(column), list):
        return (Message(role="user", content=_text(row, column)),)
    messages = _messages(row, column)
    if messages[-1].role != "user":
        begun = " (an answer that is already begun can't be read)" if messages[-1].role == "assistant" else ""
        raise Unreadable(f"{column}: expected the last message to be the user's, got the {messages[-1].role}'s{begun}")
    return messages


def _implicit(row: dict[str, Any], columns: Columns) -> tuple[Messages, str, str]:
    """The common beginning of two conversations, and the answer at the end of each."""
    chosen, rejected = (_conversation(row, c) for c in (columns.chosen, columns.rejected))
    shared = 0
    # The last message of each is an answer, even if the other conversation continues with the same message.
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    for column, messages in ((columns.chosen, chosen), (columns.rejected, rejected)):
        rest = [m.role for m in messages[shared:]]
        if rest != ["assistant"]:
            after = f"{len(rest)} messages" if len(rest) > 1 else f"the {rest[0]}'s"
            raise Unreadable(
                f"{column}: expected one answer after the common beginning of both conversations, got {after}"
            )
    if not shared or chosen[shared - 1].role != "user":
        raise Unreadable(f"{columns.chosen}: expected conversations that share a user's message before the answer")
    return chosen[:shared], chosen[shared].content, rejected[shared].content


def _conversation(row: dict[str, Any], column: str) -> Messages:
    if isinstance(row.get(column), list):
        return _messages(row, column)
    text = _text(row, column)
    before, *turns = MARKED_TURN.split(text)
    if before or not turns:
        raise Unreadable(f"{column}: expected a list of messages, or a transcript of Human: and Assistant: turns")
    roles = ["user" if name == "Human" else "assistant" for name in turns[::2]]
    messages = [{"role": role, "content": words.strip()} for role, words in zip(roles, turns[1::2], strict=True)]
    return _messages({column: messages}, column)


def _answer(row: dict[str, Any], column: str, prompt: Messages) -> str:
    if not isinstance(row.get(column), list):
        return _text(row, column)
    *before, last = _messages(row, column)
    if last.role != "assistant":
        raise Unreadable(f"{column}: expected the last message to be the assistant's, got the {last.role}'s")
    prompt_turns = _stripped(prompt)
    if before and _stripped(before) not in (prompt_turns, [t for t in prompt_turns if t[0] != "system"]):
        raise Unreadable(f"{column}: expected the messages before the answer to be the prompt's")
    return last.content


def _stripped(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """(role, content without surrounding white space) of each message."""
    return [(m.role, m.content.strip()) for m in messages]


def _messages(row: dict[str, Any], column: str) -> Messages:
    messages = []
    for i, item in enumerate(row[column]):
        if not isinstance(item, dict) or item.get("role") not in ("system", "user", "assistant"):
            got = f", got {kind(item)}" if not isinstance(item, dict) else ""
            raise Unreadable(f"{column}.{i}: expected {{role: system, user or assistant, content: text}}{got}")
        messages.append(Message(role=item["role"], content=_text(item, "content", f"{column}.{i}.content")))
    if not messages:
        raise Unreadable(f"{column}: expected at least one message, got an empty list")
    return tuple(messages)


def _text(row: dict[str, Any], column: str, shown: str | None = None) -> str:
    value = row.get(column)
    shown = shown or column
    if column not in row:
        raise Unreadable(f"column '{shown}' is missing; expected text")
    if not isinstance(value, str):
        raise Unreadable(f"{shown}: expected text, got {kind(value)}")
    if not value.strip():
        raise Unreadable(f"{shown}: expected text, got an empty string; fill it in or remove the row")
    return _encodable(value, shown)


def _optional_text(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unreadable(f"{column}: expected text, got {kind(value)}")
    return _encodable(value, column)


def _encodable(value: str, shown: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unreadable(f"{shown}: expected text, got a lone surrogate") from None
    return value


def kind(value: Any) -> str:
    """A value's JSON type, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return "a number" if type(value) in (int, float) else names.get(type(value), f"a {type(value).__name__}")
