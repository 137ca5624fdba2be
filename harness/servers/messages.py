"""What a server's message says: its text, the thought before it, and which token of the reply begins the answer."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.models.templates.thoughts import MARKERS, Parted, parted

THOUGHT_FIELDS = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks", "thought")
"""Fields of a message in which servers put what a model has thought, each of them a text or a list of parts."""
LONGEST_TEXT = 1 << 20
"""Characters of the longest text of a reply."""
_DEEPEST = 4
"""Nesting of the parts of a thought."""
_TEXTS = ("text", "thinking", "reasoning", "content", "summary", "value")
"""Fields that hold the text of a part."""
_CLOSINGS = re.compile("|".join(dict.fromkeys(re.escape(m.closing) for m in MARKERS if m.closing != "<|end|>")))
_ANSWERS = ("<|message|>", "assistantfinal")
"""What gpt-oss writes before an answer, besides, with and without its special tokens."""
_UNFINISHED_CHANNEL = re.compile(r"\Aanalysis(?=[A-Z])(?!.*assistantfinal)", re.DOTALL)
_QUOTES = frozenset("`'\"")
_JOINTS = frozenset({"", "and", "or", "to", "/", "&", ",", "-", "...", "\u2026"})
"""What stands between two markers that a text just mentions, as in `<think> and </think>`."""
_ENDS = re.compile(rb"(?:\s|<[^<>]*>|\[/?[A-Z_]+\])*")
"""Blanks and the tokens that end a turn, as servers write them (`<|im_end|>`, `</s>`)."""
_SPACES = str.maketrans({"\u0120": " ", "\u2581": " ", "\u010a": "\n"})
"""How byte-level and sentencepiece vocabularies write blanks."""


class Said(NamedTuple):
    """A message. `content`: its text as sent, None if there is none. `answer`: what follows the last thought in it.
    `thought`: all thoughts in it and beside it. `inside`: whether there are thoughts in the content. `unfinished`: the
    last of those doesn't end, so that there is no answer. `aside`: the thought that came beside the content."""

    content: str | None
    answer: str
    thought: str
    inside: bool
    unfinished: bool
    aside: str


def said(message: Any) -> Said:
    """What a message says. Raises ValueError for a content that is neither a text, nor parts, nor null."""
    fields = message if isinstance(message, Mapping) else {}
    content, aside = _content(fields.get("content"))
    # Some servers send one thought under several names.
    aside = max([aside, *(_spoken(fields.get(name)) for name in THOUGHT_FIELDS)], key=len).strip()
    parts = after_thoughts(content or "")
    inside = parts.unfinished or parts.answer != (content or "")
    return Said(content, parts.answer, parts.thought.strip() + aside, inside, parts.unfinished, aside)


def after_thoughts(text: str, *, opened: bool = False) -> Parted:
    """A judge's text in what follows its last thought, and its thoughts; an unfinished thought is followed by nothing.
    What stands before a thought is not the answer yet. A text without thoughts is its answer, to the byte. `opened`:
    the prompt has opened one."""
    if _UNFINISHED_CHANNEL.match(text):
        return Parted("", text, True)
    parts = parted(text, opened=opened)
    if parts.unfinished:
        return Parted("", parts.thought, True)
    answer, thought = parts.answer, parts.thought
    if end := _inline_end(answer):
        answer, thought = answer[end:].strip(), thought + answer[:end]
    # The markers in the answer itself are mentioned there; the last one before them ends the last thought.
    ends = list(_CLOSINGS.finditer(text))
    ends = ends[: len(ends) - len(_CLOSINGS.findall(answer))]
    if answer != text and ends and (tail := text[ends[-1].end() :].strip()) and answer.endswith(tail):
        answer = tail
    return Parted(answer, thought, False)


def _inline_end(answer: str) -> int:
    """Where the last thought ends that begins within a line; 0 if there is none."""
    last = 0
    for marker in MARKERS:
        start = answer.find(marker.opening)
        begin = start + len(marker.opening)
        if start < 0 or {answer[start - 1 : start], answer[begin : begin + 1]} & _QUOTES:
            continue
        last_end = answer.rfind(marker.closing, begin)
        if last_end >= 0 and answer[begin:last_end].strip() not in _JOINTS:
            last = max(last, last_end + len(marker.closing))
    return last


def token_at(entries: Any, whole: Said, offset: int, *, reasoned: bool) -> int | None:
    """The index of the token that begins at a character of the answer, in the log-probabilities of a reply; None if
    that can't be told. `reasoned`: the server says that tokens went into a thought. A reply's list may cover its
    thought, without saying so: the content is found from its end. A list whose tokens don't spell the text (some write
    `token_id:5`) is taken to begin with the answer, unless there was a thought."""
    if not isinstance(entries, list) or not entries:
        return None
    thought = reasoned or bool(whole.aside) or whole.inside
    pieces = [entry if isinstance(entry, Mapping) else {} for entry in entries]
    if not whole.answer.strip():
        # A token that isn't in the text was hidden: a thought's.
        return None if thought or _bare(_spelt(pieces[:1], raw=True)[0]) else 0
    places = [_place(_spelt(pieces, raw=raw), whole, offset) for raw in (True, False)]
    if found := [place for place in places if place is not None]:
        return next((place for place in found if place >= 0), None)
    return 0 if not thought and offset == 0 else None


def _place(tokens: Sequence[bytes], whole: Said, offset: int) -> int | None:
    """The index of the token that begins at a character of the answer; -1 if none begins there, or the tokens before
    the answer are not those of a thought; None if the tokens don't spell the answer."""
    text = b"".join(tokens)
    answer = whole.answer.strip()
    start = text.rfind(answer.encode())
    if start < 0 or not _ENDS.fullmatch(text, start + len(answer.encode())):
        return None
    before = text[:start]
    if _bare(before) and not _is_thought(before, whole):
        return -1
    blanks = len(whole.answer) - len(whole.answer.lstrip())
    wanted = start + len(answer[: max(0, offset - blanks)].encode())
    begin = 0
    for index, token in enumerate(tokens):
        if begin <= wanted < begin + len(token):
            return index if not text[begin:wanted].strip() else -1
        begin += len(token)
    return -1


def _is_thought(before: bytes, whole: Said) -> bool:
    """Whether the tokens before the answer are its thought: they hold a closing marker, or what the server sent beside
    the answer."""
    text = before.decode("utf-8", "replace")
    if _CLOSINGS.search(text) or any(mark in text for mark in _ANSWERS):
        return True
    return bool(whole.aside) and whole.aside[-20:] in text


def _bare(text: bytes) -> bytes:
    """Without blanks and the tokens that end a turn, if there is nothing else."""
    return b"" if _ENDS.fullmatch(text) else text


def _spelt(pieces: Sequence[Mapping[str, Any]], *, raw: bool) -> list[bytes]:
    """The bytes of tokens: those that the server sends, or of its text."""
    tokens = []
    for piece in pieces:
        numbers, token = piece.get("bytes"), piece.get("token")
        text = token if isinstance(token, str) else ""
        if raw and isinstance(numbers, list) and numbers and all(type(b) is int and 0 <= b < 256 for b in numbers):
            tokens.append(bytes(numbers))
        else:
            tokens.append((text if raw else text.translate(_SPACES)).encode("utf-8", "replace"))
    return tokens


def _content(content: Any) -> tuple[str | None, str]:
    """(the text, the thoughts) of a message's content, which may be in parts. Raises ValueError."""
    aside = ""
    if isinstance(content, list):
        texts = []
        for part in content:
            if isinstance(part, str):
                texts.append(part)
            elif isinstance(part, Mapping) and _is_thinking(part):
                aside += _spoken(part)
            elif isinstance(part, Mapping) and str(part.get("type", "text")) in ("text", "output_text"):
                texts.append(_spoken(part.get("text")))
        content = "".join(texts)
    return text_of(content), aside


def text_of(content: Any) -> str | None:
    """A text, or None for null. Raises ValueError for anything else and for texts that are too long."""
    if content is None:
        return None
    if not isinstance(content, str):
        raise ValueError(f"the reply's text is of type {type(content).__name__}; expected a string")
    if len(content) > LONGEST_TEXT:
        raise ValueError(f"the reply's text has {len(content):,} characters; expected at most {LONGEST_TEXT:,}")
    return content


def _is_thinking(part: Mapping[Any, Any]) -> bool:
    kind = str(part.get("type", "")).lower()
    return part.get("thought") is True or any(word in kind for word in ("think", "thought", "reason"))


def _spoken(value: Any, depth: int = _DEEPEST) -> str:
    """The text of a part or a thought, in any of the usual shapes; empty if there is none."""
    if isinstance(value, str):
        return value
    if not depth:
        return ""
    if isinstance(value, list):
        return "".join(_spoken(item, depth - 1) for item in value)
    if isinstance(value, Mapping):
        return next((text for name in _TEXTS if (text := _spoken(value.get(name), depth - 1))), "")
    return ""
