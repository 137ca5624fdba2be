"""The samples to draw, and where a sample ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from harness.models.batching import Job
from harness.models.chat import end_of_turn
from harness.types import Completion, FinishReason, Sampling

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

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
    limit = min(job.sampling.max_new_tokens, window - len(job.prompt))
    return [Sample(request, job.prompt, job.sampling, k, limit) for k in job.samples]


@dataclass(eq=False)
class Row:
    """A sample that is being drawn: the tokens written so far, and its random stream."""

    sample: Sample
    stream: "np.random.Generator"
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
    """Detects where a model's turn ends: at its end tokens and at the `stop` texts of the sampling parameters."""

    def __init__(self, tokens: set[int], decode: Callable[[list[int]], str]) -> None:
        self.tokens = tokens
        self._decode = decode

    @staticmethod
    def of(tokenizer: "PreTrainedTokenizerBase") -> "Ending":
        """As a tokenizer's chat template ends turns."""
        tokens = {end_of_turn(tokenizer), tokenizer.eos_token_id} - {None}
        return Ending(tokens, lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)))

    def reached(self, written: Sequence[int], sample: Sample) -> bool:
        """Whether these tokens end the turn, by the token limit or otherwise."""
        if len(written) >= sample.limit or (written and written[-1] in self.tokens):
            return True
        stop = sample.sampling.stop
        if not stop or not written:
            return False
        # A character has at most 4 bytes of UTF-8, hence at most 4 tokens. 8 more, as a tokenizer may decode the
        # beginning of a text differently.
        tail = self._text(written[-(4 * max(map(len, stop)) + 8) :])
        return any(text in tail for text in stop)

    def completion(self, written: Sequence[int], sampling: Sampling) -> Completion:
        """The text of these tokens."""
        ended = bool(written) and written[-1] in self.tokens
        text = self._text(written[:-1] if ended else written)
        cuts = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
        reason: FinishReason = "stop" if ended or cuts else "length"
        return Completion(text=text[: min(cuts)] if cuts else text, finish_reason=reason, tokens=len(written))

    def _text(self, tokens: Sequence[int]) -> str:
        return self._decode(list(tokens))


Finished = Callable[[Sample, list[int]], None]
"""Takes a finished sample with its token ids, end token included."""
