"""Thoughts that a model writes before its answer, and where they end.

Nobody but the model itself is meant to read them: judges, reward models, the next turn and lengths see the answer. A
text that only talks about the markers, or quotes them in code, has no thoughts.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

Thinking = Literal["strip", "keep", "refuse"]
"""What becomes of thoughts: they are left out, they stay, or they are an error."""
_FINAL = r"(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>"
"""What gpt-oss writes before its answer."""


class Marker(NamedTuple):
    """What opens a thought, and what closes it, as models write them. `closed_by`: a pattern of what closes it, where
    that isn't always `closing`; `close`: what a closed thought ends with, up to where the answer begins."""

    opening: str
    closing: str
    close: str
    closed_by: str

    def is_closed_in(self, text: str) -> bool:
        """Whether a text inside the thought closes it."""
        return re.search(self.closed_by, text) is not None


def _marker(opening: str, closing: str, close: str | None = None, closed_by: str | None = None) -> Marker:
    return Marker(opening, closing, close or f"\n{closing}\n\n", closed_by or re.escape(closing))


_HARMONY = rf"<\|end\|>\s*(?:{_FINAL})?|{_FINAL}"
MARKERS = (
    _marker("<think>", "</think>"),  # DeepSeek-R1, Qwen 3, GLM, SmolLM3, Nemotron
    *(_marker(f"<{name}>", f"</{name}>") for name in ("Think", "THINK", "thinking", "thoughts", "longcat_think")),
    _marker("<thought>", "</thought>"),  # EXAONE
    _marker("<unused94>thought\n", "<unused95>", "<unused95>"),  # MedGemma
    _marker("<reasoning>", "</reasoning>"),
    _marker("[THINK]", "[/THINK]"),  # Magistral
    _marker("<seed:think>", "</seed:think>"),  # Seed-OSS
    _marker("◁think▷", "◁/think▷"),  # Kimi
    _marker("<|begin_of_thought|>", "<|end_of_thought|>"),
    _marker("<|START_THINKING|>", "<|END_THINKING|>"),  # Command
    _marker("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    _marker("<|channel>thought\n", "<channel|>", "<channel|>"),  # Gemma 4
    # gpt-oss
    *(
        _marker(
            f"<|channel|>{channel}<|message|>",
            "<|end|>",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
            _HARMONY,
        )
        for channel in ("analysis", "commentary")
    ),
)
_OPENINGS = re.compile("|".join(re.escape(marker.opening) for marker in MARKERS))
_CLOSINGS = re.compile(
    "|".join([rf"(?:<\|end\|>)?{_FINAL}", *(re.escape(m.closing) for m in MARKERS if m.closing != "<|end|>")])
)
_SIGNS = ("<", "[", "◁")
"""With which all markers begin."""
_OF_OPENING = {marker.opening: marker for marker in MARKERS}
_OF_CLOSING = {marker.closing: marker for marker in MARKERS}
_BOTH = {m.opening: re.compile(f"(?P<closing>{m.closed_by})|{re.escape(m.opening)}") for m in MARKERS}
_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)
_FRAMES = (
    ("<answer>", "</answer>"),
    ("<response>", "</response>"),
    ("<output>", "</output>"),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
)
"""What models enclose the whole answer in, after a thought."""
_BARE_HARMONY = re.compile(r"analysis(?=\S)(?P<thought>.*?)(?:assistant)(?:final)", re.DOTALL)
"""gpt-oss from a server that leaves out special tokens."""
_JOINTS = frozenset({"and", "or", "to", ",", "/", "...", "…"})
"""What is between two markers that a text talks about."""
_SENTENCE_ENDS = ".!?…:;。！？)]}"
_QUOTES_BEFORE, _QUOTES_AFTER, _PUNCTUATION = "`'\"“‘«(", "`'\"”’»)", ".,;:!?"


class Parted(NamedTuple):
    """A text's answer and its thoughts. `unfinished`: the last thought doesn't end, so that there is no answer yet."""

    answer: str
    thought: str
    unfinished: bool


def parted(text: str, *, opened: bool = False) -> Parted:
    """A text in its answer and its thoughts. A thought begins where the text or a line begins, outside of code blocks,
    or where another thought has ended; `opened`: the prompt has opened one already. What stands before a closing marker
    that nothing has opened is a thought too, unless the text just mentions the marker. A text without thoughts is its
    answer, to the byte; the answer has no thoughts."""
    if not opened and not _may_have_thoughts(text):
        return Parted(text, "", False)
    answer, thoughts, unfinished = _once(text, opened)
    more = thoughts
    while more:  # what was on both sides of a thought may be one
        answer, more, also = _once(answer, False)
        thoughts, unfinished = [*thoughts, *more], unfinished or also
    return Parted(answer, "\n".join(thoughts), unfinished)


def _once(text: str, opened: bool) -> tuple[str, list[str], bool]:
    """(answer, thoughts, whether the last one is unfinished), in one reading."""
    if not opened and (whole := _without_harmony(text)) is not None:
        return whole
    thoughts: list[str] = []
    kept: list[str] = []
    at = 0
    if end := _unopened_end(text, opened):
        thoughts.append(text[: end.start()])
        at = end.end()
    elif opened:
        return "", [text], True
    lines = _Lines()
    while (begin := _begin(text, at, lines, after_thought=bool(thoughts))) is not None:
        kept.append(text[at : begin.start()])
        closing = _closing(text, begin)
        if closing is None:
            return _tidy("".join(kept), at_end=True), [*thoughts, text[begin.end() :]], True
        thoughts.append(text[begin.end() : closing.start()])
        at = closing.end()
    if not thoughts:
        return text, [], False
    rest = text[at:]
    return _tidy("".join([*kept, rest]), at_end=not rest.strip()), thoughts, False


def _without_harmony(text: str) -> tuple[str, list[str], bool] | None:
    """gpt-oss's own cases: an answer without a thought, which has a header, and a text without its special tokens."""
    if match := re.match(_FINAL, text):
        return text[match.end() :].removesuffix("<|end|>"), [""], False
    if match := _BARE_HARMONY.match(text):
        return text[match.end() :], [match["thought"]], False
    return None


class _Lines:
    """The answer so far: whether it has any text, and whether it ends inside a code block."""

    def __init__(self) -> None:
        self.text, self.in_code = False, False

    def add(self, piece: str) -> None:
        self.text |= bool(piece.strip())
        self.in_code ^= len(_FENCE.findall(piece)) % 2 == 1


def _begin(text: str, at: int, lines: _Lines, *, after_thought: bool) -> re.Match[str] | None:
    """The next opening marker, from `at` on, that begins a thought. `lines`: the answer up to `at`; it is continued."""
    seen = at
    for match in _OPENINGS.finditer(text, at):
        lines.add(text[seen : match.start()])
        seen = match.start()
        lead = text[at : match.start()]
        starts = not lines.text or (not lead and after_thought) or re.search(r"\n {0,3}\Z", lead) is not None
        if starts and not lines.in_code and not _is_mentioned(text, match):
            return match
    return None


def _is_mentioned(text: str, opening: re.Match[str]) -> bool:
    """Whether a text just names both markers: `<think> and </think> are tags`."""
    closing = re.compile(_OF_OPENING[opening[0]].closed_by).search(text, opening.end())
    return closing is not None and text[opening.end() : closing.start()].strip(" `'\"") in _JOINTS


def _closing(text: str, opening: re.Match[str]) -> re.Match[str] | None:
    """What closes a thought: the marker that balances its openings; where none does, since the thought mentions one,
    the first."""
    depth, first = 1, None
    for match in _BOTH[opening[0]].finditer(text, opening.end()):
        is_closing = match["closing"] is not None
        first = first or (match if is_closing else None)
        depth += -1 if is_closing else 1
        if not depth:
            return match
    return first


def _unopened_end(text: str, opened: bool) -> re.Match[str] | None:
    """The end of a thought that the text itself doesn't open. `opened`: there is one, since the prompt has opened
    it."""
    begin = None if opened else _begin(text, 0, _Lines(), after_thought=False)
    ends = list(_CLOSINGS.finditer(text, 0, begin.start() if begin else len(text)))
    sure = next((end for end in ends if _ends_thought(text, end)), None)
    return sure or (ends[0] if ends and opened else None)


def _ends_thought(text: str, closing: re.Match[str]) -> bool:
    """Whether a closing marker ends a thought, rather than being mentioned in a sentence or in code."""
    if closing[0] not in _OF_CLOSING:
        return True  # gpt-oss's header of an answer, which is no word
    before, after = text[: closing.start()], text[closing.end() : closing.end() + 1]
    line = before.rpartition("\n")[2]
    if len(_FENCE.findall(before)) % 2 or line.count("`") % 2 or _OF_CLOSING[closing[0]].opening in line:
        return False
    if not line.strip():
        return True
    if line[-1] in _QUOTES_BEFORE or (after and after in _QUOTES_AFTER):
        return False
    if after == "\n":
        return True
    glued, sentence_ended = not line[-1].isspace(), line.rstrip()[-1] in _SENTENCE_ENDS
    return (glued or sentence_ended) and not (after and after in _PUNCTUATION)


def _tidy(answer: str, *, at_end: bool) -> str:
    """An answer without the empty lines, the header or the frame that follow a thought. `at_end`: a thought followed
    it."""
    answer = re.sub(rf"\A(?:\s*{_FINAL})?(?:\s*\n| +(?=\S)|\s+\Z)?", "", answer)
    for opening, closing in _FRAMES:
        if answer.startswith(opening):
            answer = answer.removeprefix(opening).rstrip().removesuffix(closing).strip()
    return answer.rstrip() if at_end else answer


def opened_by(prompt: str) -> Marker | None:
    """The thought that a prompt's end has opened; None if it has opened none."""
    end = prompt.rstrip()
    return next((m for m in MARKERS if end.endswith(m.opening.rstrip())), None)


def _may_have_thoughts(text: str) -> bool:
    """False for most texts without any marker, as can be told fast."""
    return text.startswith("analysis") or any(sign in text for sign in _SIGNS)


def ends_unopened(text: str) -> bool:
    """Whether a text closes a thought that it hasn't opened."""
    return _may_have_thoughts(text) and _unopened_end(text, False) is not None


def marking(special: Iterable[str]) -> set[str]:
    """Those of a tokenizer's special tokens that mark thoughts, which decoding must not leave out: the thought would
    then stand in the answer unmarked."""
    special = [token for token in special if token]
    kept: set[str] = set()
    for marker in MARKERS:
        opening = {token for token in special if token in marker.opening}
        closing = {token for token in special if token in marker.closing + marker.close}
        if opening or (closing and marker.closing != "<|end|>"):
            kept |= opening | closing
    return kept
