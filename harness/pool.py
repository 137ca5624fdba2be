"""The pool of samples: what a generator has written is kept and never written again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.protocols import Sampled, SampleRequest
from harness.types import Advance, Completion, Messages, Sampling


class Pool:
    """Samples of one generator, kept in a journal. `seed` is part of what a sample is."""

    def __init__(self, generator: Any, journal: Path, *, seed: int, advance: Advance) -> None:
        self._generator = generator
        self._seed = seed
        self._advance = advance

    def sample(self, prompts: Sequence[Messages | str], sampling: Sampling, samples: range) -> list[list[Completion]]:
        """The wanted samples (counted from 0) of every prompt, in order."""
        done: dict[tuple[int, int], Completion] = {}

        def arrived(rows: Sequence[Sampled]) -> None:
            done.update({(row.request, row.sample): row.completion for row in rows})
            self._advance(len(rows))

        requests = [SampleRequest(prompt, sampling, tuple(samples)) for prompt in prompts]
        self._generator.generate(requests, seed=self._seed, arrived=arrived)
        return [[done[i, k] for k in samples] for i in range(len(prompts))]
