"""The samples to draw, and where a sample ends."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from harness.models.batching import Job
from harness.models.chat import end_of_turn
from harness.models.config import declared_ends
from harness.models.decode.sampling import stream
from harness.models.decode.thinking import CLOSING, Budget, Marks
from harness.types import Completion, FinishReason, Sampling

if TYPE_CHECKING:
    import numpy as np
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

EMPTY = Completion(text="", finish_reason="length", tokens=0)
"""Of a prompt that fills the model's context window."""


class Sample(NamedTuple):
    """One sample to draw. `request`: the index of its job; `limit`: the largest number of new tokens."""

    request: int
    prompt: list[int]
    sampling: Sampling
    sample: int
    limit: int


def samples_of(request: int, job: Job, window: int) -> list[Sample]:
    """The samples of a job, whose prompt and new tokens have to fit in `window` tokens."""
    reserve = 0 if job.sampling.max_thinking_tokens is None else CLOSING
    limit = min(job.sampling.most_tokens + reserve, window - len(job.prompt))
    return [Sample(request, job.prompt, job.sampling, k, limit) for k in job.samples]


@dataclass(eq=False)
class Row:
    """A sample that is being drawn: the tokens written so far, its random stream, and the budget of its thought."""

    sample: Sample
    stream: "np.random.Generator"
    budget: Budget | None = None
    written: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens so far, the prompt's among them."""
        return len(self.sample.prompt) + len(self.written)

    @property
    def longest(self) -> int:
        """Tokens that it may have in the end."""
        return len(self.sample.prompt) + self.sample.limit


class Ending:
    """Detects where a model's turn ends: at its end tokens and at the `stop` texts of the sampling parameters.
    `marks`: how it writes texts; None: its texts aren't read."""

    def __init__(self, tokens: set[int], marks: Marks | None = None) -> None:
        self.tokens = tokens
        self._marks = marks

    @staticmethod
    def of(tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel") -> "Ending":
        """As the tokenizer's chat template ends turns, the tokenizer ends texts, and the model's configurations say:
        only they name the token by which GLM-4 ends an answer, `<|user|>`."""
        return Ending.declared(tokenizer, model.config, model.generation_config)

    @staticmethod
    def declared(
        tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", generation: "GenerationConfig | None"
    ) -> "Ending":
        """`of`, by a model's configurations."""
        declared = declared_ends(config, generation)
        tokens = {end_of_turn(tokenizer), tokenizer.eos_token_id, *declared} - {None}
        return Ending(tokens, Marks(tokenizer))

    def row(self, sample: Sample, seed: int) -> Row:
        """A sample of which nothing is written yet."""
        budget, sampling = None, sample.sampling
        if sampling.max_thinking_tokens is not None and self._marks:
            most = min(sampling.max_thinking_tokens, max(0, sample.limit - sampling.max_new_tokens - CLOSING))
            budget = Budget(self._marks, sample.prompt, most, sampling.max_new_tokens)
        return Row(sample, stream(seed, sample.prompt, sample.sample), budget)

    def add(self, row: Row, drawn: int) -> bool:
        """Write one more token, the one that was drawn unless the budget of the thought is used up; whether it ends the
        turn."""
        if row.budget is None:
            row.written.append(drawn)
        else:
            row.written.append(row.budget.next(drawn))
            row.budget.add(row.written)
        return self._is_finished(row)

    def _is_finished(self, row: Row) -> bool:
        written = row.written
        if len(written) >= row.sample.limit or written[-1] in self.tokens:
            return True
        if row.budget is not None and row.budget.is_used_up(written):
            return True
        stop = row.sample.sampling.stop
        if not stop:
            return False
        # A character has at most 4 bytes of UTF-8, hence at most 4 tokens. 8 more, as a tokenizer may decode the
        # beginning of a text differently.
        tail = self._text(written[-(4 * max(map(len, stop)) + 8) :])
        return any(text in tail for text in stop)

    def completion(self, row: Row) -> Completion:
        """The text of a finished row."""
        written, stops = row.written, row.sample.sampling.stop
        if not written:
            return EMPTY
        ended = written[-1] in self.tokens
        text = self._text(written[:-1] if ended else written)
        cuts = [at for stop in stops if (at := text.find(stop)) >= 0]
        reason: FinishReason = "stop" if ended or cuts else "length"
        return Completion(
            text=text[: min(cuts)] if cuts else text,
            finish_reason=reason,
            tokens=len(written),
            opened=self._marks is not None and self._marks.opened(row.sample.prompt) is not None,
            closed=row.budget is not None and row.budget.closed,
        )

    def _text(self, tokens: Sequence[int]) -> str:
        return self._marks.text(tokens) if self._marks else ""
