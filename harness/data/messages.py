"""Reads the columns of a row that hold conversations as text as lists of messages, and names the columns that are not
read."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.data.columns.contents import Unreadable
from harness.data.columns.written import is_blank
from harness.data.conversations import Turn, turns_in, without_end_tokens

Row = dict[str, Any]
_CHANGES_THE_PROMPT = ("tools", "functions", "images", "image", "videos", "video", "audios", "audio", "documents")
"""Columns without which a prompt means something else."""
_HISTORY = "history"
_USUAL = "transcripts Human:"
"""The layout of hh-rlhf, whose two columns are such transcripts: nothing to remark on."""
_FURTHER = re.compile(r"\n\n(?:Human|Assistant):|\s(?:USER|ASSISTANT):|\n### (?:Instruction|Human|User):")
KEPT_AS_TEXT = "texts that resemble a transcript, kept as they are"


def with_messages(row: Row, prompt: str | None, answers: Sequence[str]) -> tuple[Row, list[str]]:
    """(the row with messages in place of conversations that are written as text, how those were written). `prompt`,
    `answers`: the columns' names. Raises Unreadable."""
    found = {c: turns_in(row[c], c) for c in (prompt, *answers) if c is not None and isinstance(row.get(c), str)}
    row = dict(row)
    styles = []
    asked: list[Turn] = []
    if prompt is not None and (read := found.get(prompt)):
        if turns := _prompt_turns(prompt, *read, [row.get(c) for c in answers]):
            row[prompt] = asked = turns
            styles.append(read[1])
        elif any(turn["role"] == "assistant" for turn in read[0]):
            styles.append(KEPT_AS_TEXT)
    whole = {c: found[c] for c in answers if found.get(c)}
    are_transcripts = any(read is not None and read[1].startswith("transcripts") for read in whole.values())
    if are_transcripts and not _continue(whole, answers, row.get(prompt) if prompt else None):
        styles.append(KEPT_AS_TEXT)
        whole = {}
    for column in answers:
        text = row.get(column)
        if read := whole.get(column):
            row[column] = read[0]
            if prompt is not None or read[1] != _USUAL:
                styles.append(read[1])
        elif isinstance(text, str):
            row[column] = _answer(text, bool(asked))
            if row[column] != text and not asked:
                styles.append("end tokens of a chat template after answers")
    return row, list(dict.fromkeys(styles))


def _prompt_turns(column: str, turns: list[Turn], style: str, answers: Sequence[Any]) -> list[Turn]:
    """The turns of a prompt, which end with the user's; empty for a text that only resembles a transcript."""
    last = turns[-1]
    if last["role"] == "assistant" and not last["content"]:
        return turns[:-1]
    replies = all(isinstance(a, str) and a.lstrip().startswith(("Assistant:", "ASSISTANT:")) for a in answers)
    if style.startswith("transcripts") and (last["role"] == "assistant" or not replies):
        return []
    if last["role"] != "user":
        raise Unreadable(f"{column}: expected the last turn to be the user's, got the {last['role']}'s")
    return turns


def _continue(whole: Mapping[str, Any], answers: Sequence[str], prompt: Any) -> bool:
    """Whether all answers are transcripts that end with the assistant's reply, and the prompt, if any, is in them."""
    conversations = [whole[c][0] for c in answers if c in whole]
    complete = all(turns[-1]["role"] == "assistant" and turns[-1]["content"] for turns in conversations)
    if len(conversations) < len(answers) or not complete:
        return False
    if prompt is None:
        return True
    text = prompt.strip() if isinstance(prompt, str) else prompt[-1]["content"]
    return all(any(t["role"] == "user" and t["content"] == text for t in turns) for turns in conversations)


def _answer(text: str, after_transcript: bool) -> str:
    """An answer without end tokens; after a conversation, also without the mark of the assistant's turn."""
    text = without_end_tokens(text)
    if not after_transcript:
        return text
    text = text.strip()
    while text.endswith("</s>"):
        text = text.removesuffix("</s>").rstrip()
    if _FURTHER.search(text):
        raise Unreadable("expected one answer to the conversation before it, got further turns")
    for mark in ("Assistant:", "ASSISTANT:", "### Response:", "### Assistant:"):
        text = text.removeprefix(mark).lstrip()
    return text


def with_history(row: Row, prompt: str | None) -> tuple[Row, list[str]]:
    """(the row with the turns of its column `history`, a list of [user's, assistant's], before its prompt; how they
    were written). Raises Unreadable for what can't be read so, and for a column without which the prompt means
    something else."""
    if column := next((c for c in _CHANGES_THE_PROMPT if not is_blank(row.get(c))), None):
        advice = "leave it out, or name the columns to be read in `columns`"
        raise Unreadable(f"{column}: belongs to the prompt and can't be read; {advice}")
    history = row.get(_HISTORY)
    if is_blank(history):
        return row, []
    pairs = history if isinstance(history, list) else []
    is_read = all(isinstance(p, list) and len(p) == 2 and all(isinstance(t, str) for t in p) for p in pairs)
    if prompt is None or not pairs or not is_read or not isinstance(row.get(prompt), str):
        expected = "a list of [user's text, assistant's text] beside a prompt that is a text"
        raise Unreadable(f"{_HISTORY}: expected {expected}; else name the columns to be read in `columns`")
    turns = [{"role": ("user", "assistant")[i], "content": text} for pair in pairs for i, text in enumerate(pair)]
    return {**row, prompt: [*turns, {"role": "user", "content": row[prompt]}]}, ["earlier turns in `history`"]


def unread(row: Row, read: frozenset[str]) -> list[str]:
    """The columns, and the fields of messages, that hold something and are not `read`."""
    columns = [name for name, value in row.items() if name not in read and not is_blank(value)]
    for name in read & row.keys():
        for message in row[name] if isinstance(row[name], list) else ():
            if isinstance(message, dict):
                extra = [key for key in message if key not in ("role", "content") and not is_blank(message[key])]
                columns += [f"{name}[].{key}" for key in extra]
    return list(dict.fromkeys(columns))
