"""Rows of preference pairs in other trainers' columns, with the columns that the harness reads.

    OpenAI          input: {messages, tools}, preferred_output, non_preferred_output
    ms-swift        messages (the last is the chosen answer), rejected_response or rejected_messages;
                    or query, response, rejected_response, history
    LLaMA-Factory   conversations: [{from, value}], chosen: {from, value}, rejected: {from, value}
    Axolotl         messages, chosen: {role, content}, rejected: {role, content}
    Argilla         instruction or prompt, chosen_response, rejected_response

Any other row stays as it is.
"""

import re
from collections.abc import Mapping
from typing import Any

from harness.data.columns.contents import Unreadable, is_message, role_of
from harness.data.columns.names import renames
from harness.data.columns.written import value_in
from harness.data.conversations import is_conversation
from harness.errors import quoted

Row = dict[str, Any]
_NAMES_THE_BETTER = re.compile(r"winn|prefer|better|best|label|vote|judg|(chosen|safer)_\w*id", re.IGNORECASE)
"""Names of columns that say which of two answers is the better one."""
_PROMPTS = ("prompt", "question", "instruction")


def usual(row: Row) -> tuple[Row, list[str]]:
    """(the row with the columns prompt, chosen and rejected, in whose columns it was written). Raises Unreadable."""
    if "system_prompt" in row and "system" not in row:
        row = _renamed(row, {"system_prompt": "system"})
    if "chosen" in row and "rejected" in row:  # whatever other columns there are
        if any(name in row for name in _PROMPTS):
            return _with_history(row), []
        for name in ("conversations", "messages"):
            parsed = _parsed(row, name, "chosen", "rejected") if name in row else row
            asks = isinstance(parsed.get(name), list) and parsed[name] and role_of(parsed[name][-1]) == "user"
            if asks and all(_is_answer(parsed[side]) for side in ("chosen", "rejected")):
                return _renamed(parsed, {name: "prompt"}), [f"prompts in `{name}`"]
        answers = (row["chosen"], row["rejected"])
        if (names := renames(row)) and not any(map(is_conversation, answers)):
            return _renamed(row, names), [f"columns {', '.join(names)}"]
        return _with_history(row), []
    if "preferred_output" in row and "non_preferred_output" in row:
        return _openai(_parsed(row, "input", *_OPENAI.values())), ["columns of OpenAI's preference rows"]
    if "rejected_response" in row or "rejected_messages" in row:
        if "messages" in row:
            return _swift(_parsed(row, "messages", "rejected_messages", "rejected_response")), ["columns of ms-swift"]
        if "query" in row and "response" in row and "prompt" not in row:
            names = {"query": "prompt", "response": "chosen", "rejected_response": "rejected"}
            return _renamed(_parsed(row, "history"), names), ["columns of ms-swift"]
    if names := renames(row):
        return _renamed(row, names), [f"columns {', '.join(names)}"]
    return row, []


def _with_history(row: Row) -> Row:
    return _parsed(row, "history") if "history" in row else row


def advice(row: Mapping[str, Any]) -> str:
    """What a row without a pair may be, and what to do."""
    if "completion" in row and "label" in row:
        return "; single answers with a label are no pairs: expected two answers to each prompt"
    if "rejected" not in row and any(isinstance(row.get(name), list) for name in ("messages", "conversations")):
        return "; conversations alone are for supervised training: expected a second, worse answer to each prompt"
    if any(_NAMES_THE_BETTER.search(name) for name in row):
        return "; a column that names the better answer isn't read: put that one into `chosen`, the other in `rejected`"
    if any(len(name.split()) > 3 for name in row):
        return "; these look like texts: the first line of a table names its columns"
    if lists := [name for name, value in row.items() if isinstance(value, list) and _holds_rows(value)]:
        return f"; the rows under {quoted(lists[0])} must be a list of their own, or one a line"
    return "; if yours have other names, map them with `columns`, as in --columns prompt=A,chosen=B,rejected=C"


def _holds_rows(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(row, Mapping) and "chosen" in row for row in value[:3])


def _openai(row: Row) -> Row:
    given = row["input"] if isinstance(row.get("input"), Mapping) else {}
    if not isinstance(given.get("messages"), list):
        raise Unreadable("input: expected {messages: [{role, content}]}, as in OpenAI's preference rows")
    rest = {name: value for name, value in row.items() if name not in ("input", *_OPENAI.values())}
    inner = {name: value for name, value in given.items() if name != "messages"}  # among them `tools`
    return {**rest, **inner, "prompt": given["messages"], **{side: row[name] for side, name in _OPENAI.items()}}


_ANSWERS = ("chosen", "rejected", "rejected_response")
_OPENAI = {"chosen": "preferred_output", "rejected": "non_preferred_output"}


def _swift(row: Row) -> Row:
    messages = row["messages"]
    if not isinstance(messages, list) or len(messages) < 2 or role_of(messages[-1]) != "assistant":
        raise Unreadable("messages: expected a conversation that ends with the chosen answer, the assistant's")
    name = "rejected_messages" if row.get("rejected_messages") else "rejected_response"
    rest = {
        key: value for key, value in row.items() if key not in ("messages", "rejected_messages", "rejected_response")
    }
    rejected = row.get(name)
    if isinstance(rejected, list) and rejected and all(isinstance(text, str) for text in rejected):
        if len(rejected) > 1:
            raise Unreadable(f"{name}: {len(rejected)} worse answers; expected one, or a row for each")
        rejected = rejected[0]
    return {**rest, "prompt": messages[:-1], "chosen": [messages[-1]], "rejected": rejected}


def _renamed(row: Row, names: Mapping[str, str]) -> Row:
    return {names.get(name, name): value for name, value in row.items()}


def _is_answer(value: Any) -> bool:
    return isinstance(value, str) or is_message(value) or (isinstance(value, list) and len(value) == 1)


def _parsed(row: Row, *columns: str) -> Row:
    """The row with lists and objects in place of the texts that they became in `columns`: a table has texts alone. An
    answer may be a text that is JSON: only messages are read there."""
    changed: Row = {}
    for name in columns:
        value = row.get(name)
        if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
            try:
                found = value_in(value)
            except ValueError:
                continue  # a text that only begins so; whoever reads the column says what is wrong
            messages = found if isinstance(found, list) else [found]
            if name not in _ANSWERS or (messages and all(map(is_message, messages))):
                changed[name] = found
    return {**row, **changed}
