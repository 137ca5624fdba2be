"""The budget of a thought: how many tokens it may have, apart from those of the answer, and how it is closed there
(budget forcing, arXiv 2501.19393)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.models.templates import thoughts
from harness.models.templates.control_tokens import special_tokens
from harness.models.templates.thoughts import Marker

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CLOSING = 16
"""Tokens of the longest text that closes a thought, about."""
_TAIL = 48
"""Tokens at the end of a text in which a marker is looked for: more than the longest has as single bytes."""


class Marks:
    """A tokenizer's way of writing thoughts: text of tokens with the markers in it, and the tokens that close them."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        special = special_tokens(tokenizer)
        marking = thoughts.marking(special.values())
        self._left_out = {i for i, token in special.items() if token not in marking}
        self._marking = {i for i, token in special.items() if token in marking}

    def mark(self, ids: Sequence[int]) -> bool:
        """Whether there are special tokens among these that mark thoughts."""
        return not self._marking.isdisjoint(ids)

    def text(self, ids: Sequence[int]) -> str:
        """The text of tokens without special ones, but for those that mark thoughts."""
        if not self.mark(ids):
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))
        return str(self._tokenizer.decode([i for i in ids if i not in self._left_out], skip_special_tokens=False))

    def opened(self, prompt: Sequence[int]) -> Marker | None:
        """The thought that the end of a prompt has opened."""
        return thoughts.opened_by(str(self._tokenizer.decode(list(prompt[-_TAIL:]), skip_special_tokens=False)))

    def closing(self, marker: Marker) -> list[int]:
        """The tokens that close a thought and begin the answer."""
        return list(self._tokenizer.encode(marker.close, add_special_tokens=False))


class Budget:
    """The state of one text that is being written with a budget for its thought. `most`: tokens of the thought;
    `answer`: of the answer after it."""

    def __init__(self, marks: Marks, prompt: Sequence[int], most: int, answer: int) -> None:
        self._marks, self._most, self._answer = marks, most, answer
        self._thought = marks.opened(prompt)
        self._is_open = True
        """Whether the thought may still begin, or goes on."""
        self._before = 0
        """Tokens before the answer."""
        self._forced = marks.closing(self._thought) if self._thought and not most else []
        self.closed = bool(self._forced)

    def next(self, drawn: int) -> int:
        """The next token: the one that was drawn, or one that closes the thought."""
        return self._forced.pop(0) if self._forced else drawn

    def add(self, written: Sequence[int]) -> None:
        """Take notice of one more token."""
        if not self._is_open:
            return
        if self._thought is None:
            begins = self._marks.text(written).lstrip()
            self._thought = next((m for m in thoughts.MARKERS if begins.startswith(m.opening.rstrip())), None)
            may_begin = len(written) < _TAIL and any(m.opening.startswith(begins) for m in thoughts.MARKERS)
            if self._thought is None and not may_begin:
                self._is_open = False
                return
        if self._thought is not None:
            if not self._forced and self._thought.is_closed_in(self._marks.text(written[-_TAIL:])):
                self._is_open, self._before = False, len(written)
            elif len(written) >= self._most and not self.closed:
                self._forced, self.closed = self._marks.closing(self._thought), True

    def is_used_up(self, written: Sequence[int]) -> bool:
        """Whether the answer has all of its tokens."""
        in_thought = self._is_open and self._thought is not None
        return not in_thought and len(written) - self._before >= self._answer
