"""Sampled texts without their thoughts, and how many had some."""

from collections.abc import Iterable
from typing import Any

from harness.errors import ModelError
from harness.models.templates.thoughts import Thinking, ends_unopened, parted
from harness.types import Completion, Record

OPENED_ELSEWHERE = 0.5
"""From this share of a server's finished texts on that close a thought which they haven't opened, its prompts are taken
to open one."""


class Thoughts:
    """What becomes of the thoughts in sampled texts, counted: `texts`; those `with_thoughts`, of which the last one is
    `unfinished`, or was `closed` at its budget."""

    def __init__(self, thinking: Thinking) -> None:
        self._thinking = thinking
        self.texts = self.with_thoughts = self.unfinished = self.closed = 0

    def answer(self, completion: Completion) -> str:
        """What others than the model see of a text. Empty if it ends inside its thought."""
        answer, thought, unfinished = parted(completion.text, opened=completion.opened)
        self.texts += 1
        self.with_thoughts += bool(thought.strip()) or unfinished
        self.unfinished += unfinished
        self.closed += completion.closed
        return completion.text if self._thinking == "keep" else answer

    @property
    def report(self) -> dict[str, Any]:
        """For a stage's report; empty where nothing was thought. Raises ModelError where thoughts are refused."""
        if not (self.with_thoughts or self.closed):
            return {}
        if self._thinking == "refuse":
            raise ModelError(
                f"{self.with_thoughts:,} of {self.texts:,} texts have a thought, which policy.thinking: refuse "
                "doesn't allow; use strip, or turn thinking off, in many templates by "
                "policy.chat_template_kwargs: {enable_thinking: false}"
            )
        counts = {"removed": self._thinking == "strip", "texts": self.texts, "with_thoughts": self.with_thoughts}
        return {"thoughts": counts | {"unfinished": self.unfinished, "closed": self.closed}}


def shown(completion: Completion, thinking: Thinking) -> str:
    """`Thoughts.answer`, of a text that is counted elsewhere."""
    return Thoughts(thinking).answer(completion)


class Openings(Record):
    """Of one server's texts: how many are `finished`, and of these, how many are `closing` a thought that they haven't
    opened. Its prompts have opened one then: a server doesn't say so."""

    finished: int = 0
    closing: int = 0

    @classmethod
    def of(cls, completions: Iterable[Completion]) -> "Openings":
        finished = [c.text for c in completions if c.finish_reason == "stop"]
        return cls(finished=len(finished), closing=sum(ends_unopened(text) for text in finished))

    def __add__(self, other: "Openings") -> "Openings":
        return Openings(finished=self.finished + other.finished, closing=self.closing + other.closing)

    def marked(self, completion: Completion) -> Completion:
        """A text that was cut, and closes no thought, ends inside one if its prompt has opened one."""
        opened = self.closing > 0 and self.closing >= OPENED_ELSEWHERE * self.finished
        if not opened or completion.finish_reason == "stop":
            return completion
        return completion.model_copy(update={"opened": True})


def count_thoughts(texts: Iterable[str]) -> int:
    """How many texts have a thought."""
    return sum(bool(thought) or unfinished for _, thought, unfinished in map(parted, texts))
