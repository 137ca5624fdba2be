"""Thoughts that a model writes before its answer, and where they end.

Nobody but the model itself is meant to read them: judges, reward models, the next turn and lengths see the answer.
"""

import re
from typing import NamedTuple

MARKERS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen 3, GLM, SmolLM3
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),  # gpt-oss
    ("<|channel>thought\n", "<channel|>"),  # Gemma 4
)
"""What opens a thought, and what closes it, as models write them."""
_FINAL = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>")
"""What gpt-oss writes before its answer."""


class Parted(NamedTuple):
    """A text's answer and its thoughts. `unfinished`: the last thought doesn't end, so that there is no answer yet."""

    answer: str
    thought: str
    unfinished: bool


def parted(text: str, *, opened: bool = False) -> Parted:
    """A text in its answer and its thoughts. A thought begins where the text or a line begins, or where another thought
    has ended; `opened`: the prompt has opened one already. What stands before a closing marker that nothing has opened
    is a thought too. A text without thoughts is its answer, to the byte."""
    thoughts: list[str] = []
    rest = text
    if opened or _closes_first(rest):
        end = _first_close(rest)
        if end is None:
            return Parted("", text, True) if opened else Parted(text, "", False)
        thoughts.append(rest[: end.start()])
        rest = rest[end.end() :]
    kept = ""
    while (begin := _opening(rest, at_start=not kept.strip())) is not None:
        opening, closing = begin
        kept += rest[: opening.start()]
        end_at = rest.find(closing, opening.end())
        if end_at < 0:
            return Parted(_tidy(kept, thoughts, text), "".join([*thoughts, rest[opening.end() :]]), True)
        thoughts.append(rest[opening.end() : end_at])
        rest = rest[end_at + len(closing) :]
    return Parted(_tidy(kept + rest, thoughts, text), "\n".join(thoughts), False)


_OPENINGS = re.compile("|".join(re.escape(opening) for opening, _ in MARKERS))
_CLOSINGS = re.compile("|".join(re.escape(closing) for _, closing in MARKERS if closing != "<|end|>"))
_CLOSING_OF = dict(MARKERS)


def _closes_first(text: str) -> bool:
    """Whether a closing marker comes before any opening one."""
    end, begin = _first_close(text), _OPENINGS.search(text)
    return end is not None and (begin is None or end.start() < begin.start())


def _first_close(text: str) -> re.Match[str] | None:
    return _CLOSINGS.search(text)


def _opening(text: str, *, at_start: bool) -> tuple[re.Match[str], str] | None:
    """The next opening marker that begins a thought, with the marker that closes it."""
    for match in _OPENINGS.finditer(text):
        before = text[: match.start()]
        if (at_start and not before.strip()) or before.endswith("\n") or (not before and not at_start):
            return match, _CLOSING_OF[match[0]]
    return None


def _tidy(answer: str, thoughts: list[str], text: str) -> str:
    return _FINAL.sub("", answer).strip() if thoughts or answer != text else text
