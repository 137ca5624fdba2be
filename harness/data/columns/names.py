"""Columns of pairs by what their names say: `good answer` and `bad_answer`, `Winner` and `loser`, `userQuestion`."""

import re
from collections.abc import Iterable
from typing import Any

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_PROMPTS = frozenset({"prompt", "question", "instruction", "query", "input", "request"})
_OF_ANSWERS = frozenset({"answer", "response", "output", "completion", "reply", "text"})
_OF_PROMPTS = frozenset({"user", "text"})
_BETTER = frozenset({
    "chosen", "preferred", "prefer", "better", "best", "good", "winner", "winning", "accepted", "positive",
})  # fmt: skip
_WORSE = frozenset({
    "rejected", "dispreferred", "unpreferred", "nonpreferred", "not preferred", "non preferred", "less preferred",
    "not chosen", "unchosen", "worse", "worst", "bad", "loser", "losing", "negative",
})  # fmt: skip


def renames(row: dict[str, Any]) -> dict[str, str]:
    """What the columns of a row are to be called: prompt, chosen, rejected. Empty where names don't tell: no column
    or several for one of the three, or names that may as well be those of a verdict (`winner` beside two answers)."""
    better, worse = (_meaning(row, words, _OF_ANSWERS) for words in (_BETTER, _WORSE))
    usual = next((name for name in ("prompt", "question", "instruction") if name in row), None)
    prompts = [usual] if usual else _meaning(row, _PROMPTS, _OF_PROMPTS)
    if not (len(better) == len(worse) == len(prompts) == 1):
        return {}
    names = (better[0], worse[0])
    if any(_words(name)[-1] not in _OF_ANSWERS for name in names) and _other_answers(row, names):
        return {}
    asked = prompts[0]
    kept = asked if asked in ("question", "instruction") else "prompt"
    found = {asked: kept, better[0]: "chosen", worse[0]: "rejected"}
    taken = set(found.values()) & (row.keys() - found.keys())  # another column has that very name
    return {} if taken else found


def _meaning(row: Iterable[str], words: frozenset[str], rest: frozenset[str]) -> list[str]:
    """The columns whose names are one of `words`, with or without words of `rest` around it."""
    return [name for name in row if " ".join(word for word in _words(name) if word not in rest) in words]


def _words(name: str) -> list[str]:
    """A name's words in lower case: those of `userQuestion`, `user_question` and `User question` are the same."""
    return [word.lower() for word in _WORDS.findall(name)] or [""]


def _other_answers(row: Iterable[str], names: Iterable[str]) -> bool:
    return any(name not in names and not _OF_ANSWERS.isdisjoint(_words(name)) for name in row)
