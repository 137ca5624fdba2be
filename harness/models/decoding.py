"""In-process sampling from a causal language model. A prompt is computed once for all its samples.

Every sample has its own random stream, keyed by (seed, prompt, sample index). So a sample depends neither on the rows
that are decoded with it nor on N, except for rounding in matrix products: the first two samples of N=4 are those of
N=2, and the batch size is not part of stage keys.

Models with attention over keys and values are decoded in slots, which rows enter and leave at any time, by two workers
on a CPU (`harness.models.decode.slots`). There a row's numbers are the same, to the last bit, whatever else is decoded:
of 48 samples of 32 tokens by SmolLM2-135M at temperature 1, none differed between two workers and one, nor between
48 rows, 10 and 2, in float32 and in bfloat16. So a resumed run writes what an uninterrupted one does. Other models are
decoded batch by batch with their own cache, where in bfloat16 a third of the samples differs between batches of 32
and 4.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.models import chat
from harness.models.batching import Job, batch_limits, batches, longest_first
from harness.models.config import context_window, rope_class
from harness.models.decode.padded import PaddedDecoder
from harness.models.decode.rows import Ending, Row, Sample, samples_of
from harness.models.decode.support import decodes_in_slots
from harness.models.decode.waiting import Waiting
from harness.models.decode.workers import decode_waiting
from harness.protocols import Arrived, Sampled
from harness.types import Advance, Completion

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Job", "decode", "decode_all"]

Then = Callable[[Sampled], Job | None]
"""The job that continues a finished sample, if any: the next turn of a conversation. Its samples arrive under the index
of the job that it continues."""


def decode(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    jobs: Sequence[Job],
    *,
    seed: int,
    batch_size: int | None,
    arrived: Arrived,
    then: Then = lambda _: None,
) -> None:
    """Draw the samples of all jobs and pass them to `arrived` as they are finished, in any order. `batch_size`: most
    sequences in one forward pass; None: as many as the model and the device allow. It affects speed and memory, not the
    samples. What doesn't fit in memory is halved; raises ModelError if a single sequence doesn't fit. A prompt that
    fills the model's context window gets empty completions with finish reason `length`."""
    decoding = _Decoding(model, tokenizer, seed, batch_size, arrived, then)
    decoding.run(list(enumerate(jobs)))


def decode_all(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    jobs: Sequence[Job],
    *,
    seed: int,
    batch_size: int | None,
    advance: Advance,
) -> list[list[Completion]]:
    """The completions of every job as a list, in order; otherwise like `decode`."""
    done: dict[tuple[int, int], Completion] = {}

    def arrived(rows: Sequence[Sampled]) -> None:
        done.update({(row.request, row.sample): row.completion for row in rows})
        advance(len(rows))

    decode(model, tokenizer, jobs, seed=seed, batch_size=batch_size, arrived=arrived)
    return [[done[i, k] for k in job.samples] for i, job in enumerate(jobs)]


class _Decoding:
    """One call of `decode`."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        seed: int,
        batch_size: int | None,
        arrived: Arrived,
        then: Then,
    ) -> None:
        self._model = model
        self._seed = seed
        self._arrived = arrived
        self._then = then
        self._ending = Ending.of(tokenizer, model)
        self._limits = batch_limits(model, batch_size)
        self._window = context_window(model) or 1 << 30
        beginning = chat.beginning(tokenizer)
        self._beginning = beginning if len(beginning) < self._window else []

    def run(self, jobs: list[tuple[int, Job]]) -> None:
        if not jobs:
            return
        if decodes_in_slots(self._model):
            self._in_slots(jobs)
        else:
            self._in_batches(jobs)

    def _in_slots(self, jobs: list[tuple[int, Job]]) -> None:
        first = rope_class(self._model, 1)
        by_length = rope_class(self._model, self._window) != first
        waiting = Waiting((lambda length: rope_class(self._model, length) != first) if by_length else None)

        def put(jobs: list[tuple[int, Job]]) -> int:
            groups = self._groups(jobs)
            for group in groups:
                waiting.put([self._ending.row(s, self._seed) for s in group])
            return sum(map(len, groups))

        def finished(rows: list[Row]) -> None:
            put(self._deliver(rows))

        count = put(jobs)
        decode_waiting(self._model, self._ending, self._seed, waiting, self._limits, count, self._beginning, finished)

    def _in_batches(self, jobs: list[tuple[int, Job]]) -> None:
        import torch

        decoder = PaddedDecoder(self._model, self._ending, self._seed)
        while jobs:
            following: list[tuple[int, Job]] = []
            indexed = longest_first([job for _, job in jobs])
            for batch in batches(indexed, self._limits):
                named = [(jobs[place][0], job) for place, job in batch]
                rows = [sample for group in self._groups(named) for sample in group]
                if rows:
                    with torch.inference_mode():
                        written = decoder.batch(rows)
                    following += self._deliver(written)
            jobs = following

    def _groups(self, jobs: list[tuple[int, Job]]) -> list[list[Sample]]:
        """The samples of each job, without those for which there is no room. Those are delivered."""
        groups: list[list[Sample]] = []
        for request, job in jobs:
            samples = samples_of(request, job, self._window)
            if samples and samples[0].limit <= 0:
                more = self._deliver([self._ending.row(sample, self._seed) for sample in samples])
                groups += self._groups(more)
            elif samples:
                groups.append(samples)
        return groups

    def _deliver(self, finished: Sequence[Row]) -> list[tuple[int, Job]]:
        """Pass on finished samples; returns the jobs that continue them."""
        sampled = [Sampled(row.sample.request, row.sample.sample, self._ending.completion(row)) for row in finished]
        self._arrived(sampled)
        return [(one.request, job) for one in sampled if (job := self._then(one)) is not None]
