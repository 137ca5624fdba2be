"""Control tokens in text from outside: `<|im_end|>` in an answer is text, only the chat template's own is a token.

Control tokens are a tokenizer's special tokens, and other added tokens by which its chat template marks turns
(DeepSeek's `<｜User｜>` is not special). Before a template is rendered, those that messages spell are enclosed in two
private characters; afterwards the enclosed ones are encoded as text and everything else as usual. Texts that spell none
have the same ids as ever.

Markup of letters and brackets without tokens of its own (Llama 2's `[INST]`, Vicuna's `USER:`) can't be told from
text by any encoding.
"""

import contextlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from harness.errors import ModelError
from harness.models.templates.rendering import render
from harness.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OPEN, _CLOSE = "\U000f0000", "\U000f0001"
"""Characters for private use, which enclose a control token that a message spells."""
_MARKS = re.compile(f"[{_OPEN}{_CLOSE}]")
_LIKE_MARKUP = re.compile(r"(?=.*\w)(?=.*[^\w\s])\S{3,}")
"""Added tokens that can be markup: whole words, digits and runs of spaces are none."""
_ANCHOR = "\n"
"""A text that precedes a piece while it is encoded: SentencePiece puts a space before the first word of a text."""


class _Control(NamedTuple):
    """A tokenizer's control tokens. `turns`: those that mark turns, the longest first. `named`: these, and others that
    the template mentions (`<think>`), which a model may write itself, but nobody else."""

    turns: re.Pattern[str]
    named: re.Pattern[str]
    state: tuple[Any, int]
    """The template and the size of the tokenizer that they were read from."""


_cache: "WeakKeyDictionary[PreTrainedTokenizerBase, _Control]" = WeakKeyDictionary()


def _control(tokenizer: "PreTrainedTokenizerBase") -> _Control:
    state = (str(tokenizer.chat_template), len(tokenizer))
    cached = _cache.get(tokenizer)
    if cached is None or cached.state != state:
        cached = _cache[tokenizer] = _Control(*_read(tokenizer), state)
    return cached


def _read(tokenizer: "PreTrainedTokenizerBase") -> tuple[re.Pattern[str], re.Pattern[str]]:
    added = list(tokenizer.added_tokens_decoder.values())
    special = {t.content for t in added if t.special} | set(tokenizer.all_special_tokens)
    others = [t.content for t in added if t.content not in special and _LIKE_MARKUP.fullmatch(t.content)]
    template = str(tokenizer.chat_template or "")
    turns = special | _around_a_message(tokenizer, others)
    return _any_of(turns), _any_of(turns | {token for token in others if token in template})


def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[int, str]:
    """A tokenizer's special tokens by id, those among them that only its added tokens flag."""
    added = {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))


def _around_a_message(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[str]) -> set[str]:
    """The tokens that the template writes around messages of the user and the system, and the one that opens the
    answer."""
    user, system = Message(role="user", content="x"), Message(role="system", content="x")
    pattern = _any_of(tokens)
    around: set[str] = set()
    for messages in ([user], [system, user]):
        # A conversation that the template refuses is reported where it occurs.
        with contextlib.suppress(ModelError):
            closed = render(tokenizer, messages)
            opening = pattern.search(render(tokenizer, messages, add_generation_prompt=True).removeprefix(closed))
            around |= {*pattern.findall(closed), *([opening[0]] if opening else [])}
    return around


def _any_of(tokens: "Sequence[str] | set[str]") -> re.Pattern[str]:
    longest_first = sorted((t for t in tokens if len(t) > 1 and not t.isspace()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def marked(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message]) -> list[Message] | None:
    """The messages with control tokens enclosed; None if they spell none."""
    control = _control(tokenizer)
    result, any_marked = [], False
    for message in messages:
        text = _MARKS.sub("", message.content)
        pattern = control.turns if message.role == "assistant" else control.named
        text, count = pattern.subn(f"{_OPEN}\\g<0>{_CLOSE}", text)
        any_marked |= count > 0 or len(text) != len(message.content)
        result.append(Message(role=message.role, content=text))
    return result if any_marked else None


def encode_marked(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Ids of a rendered conversation, enclosed control tokens as text. A mark whose other half the template cut off
    is dropped, but what was on its two sides isn't joined."""
    control = _control(tokenizer)
    pieces = re.split(f"{_OPEN}({control.named.pattern}){_CLOSE}|{_MARKS.pattern}", text)
    return _ids_of_pieces(tokenizer, pieces, split_special_tokens=False)


def encode_text(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Ids of a text in which no token marks a turn."""
    ids = list(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
    turns = _control(tokenizer).turns
    spelt = {tokenizer.convert_tokens_to_ids(token) for token in set(turns.findall(text))}
    if spelt.isdisjoint(ids):
        return ids
    return _ids_of_pieces(tokenizer, re.split(f"({turns.pattern})", text), split_special_tokens=True)


def _ids_of_pieces(
    tokenizer: "PreTrainedTokenizerBase", pieces: Sequence[str | None], *, split_special_tokens: bool
) -> list[int]:
    """Ids of pieces of a text, of which every second one is a control token that is encoded as text (or None)."""
    ids: list[int] = []
    for i, piece in enumerate(pieces):
        if not piece:
            continue
        if i % 2:
            ids += _spelt_out(tokenizer, piece, after=bool(ids))
        else:
            ids += _encode(tokenizer, piece, split_special_tokens, after=bool(ids))
    return ids


def _encode(tokenizer: "PreTrainedTokenizerBase", piece: str, split_special_tokens: bool, *, after: bool) -> list[int]:
    """Ids of a piece. `after`: of one that continues a text."""
    options = {"add_special_tokens": False, "split_special_tokens": split_special_tokens}
    if after:
        anchor = tokenizer.encode(_ANCHOR, **options)
        ids = tokenizer.encode(_ANCHOR + piece, **options)
        if ids[: len(anchor)] == anchor:
            return list(ids[len(anchor) :])
    return list(tokenizer.encode(piece, **options))


def _spelt_out(tokenizer: "PreTrainedTokenizerBase", token: str, *, after: bool) -> list[int]:
    """Ids of a control token as text: as the tokenizer spells it, or else in two parts, since it can't be told to
    overlook a token that isn't special."""
    ids = _encode(tokenizer, token, split_special_tokens=True, after=after)
    if tokenizer.convert_tokens_to_ids(token) not in ids or len(token) == 1:
        return ids
    return _spelt_out(tokenizer, token[:1], after=after) + _spelt_out(tokenizer, token[1:], after=True)
