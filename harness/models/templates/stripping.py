"""Sampled texts without their thoughts, and how many had some."""

from collections.abc import Iterable, Sequence
from typing import Any

from harness.errors import ModelError
from harness.models.templates.thoughts import Thinking, ends_unopened, parted
from harness.types import Completion

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


def with_openings(completions: Sequence[Completion]) -> list[Completion]:
    """One server's texts, marked where its prompts have opened a thought: a server doesn't say so. Then a text that was
    cut, and closes no thought, ends inside one."""
    finished = [c.text for c in completions if c.finish_reason == "stop"]
    closing = sum(ends_unopened(text) for text in finished)
    if not closing or closing < OPENED_ELSEWHERE * len(finished):
        return list(completions)
    return [c if c.finish_reason == "stop" else c.model_copy(update={"opened": True}) for c in completions]


def count_thoughts(texts: Iterable[str]) -> int:
    """How many texts have a thought."""
    return sum(bool(thought) or unfinished for _, thought, unfinished in map(parted, texts))
