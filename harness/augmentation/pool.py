"""The pool of samples: every sample of a generator is stored, and never generated again.

A sample's key is the SHA-256 of (the generator's identity, the sampling, the prompt, the seed, the sample's index). So
N=4 after N=2 generates two more samples per prompt, N=2 is the first two of N=4, and a killed run generates only the
rest.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.components import identity
from harness.engine.journal import Journal, content_key
from harness.errors import ModelError
from harness.protocols import Sampled, SampleRequest
from harness.servers.replies import answering
from harness.types import Advance, Completion, Messages, Sampling


class Pool:
    """The samples of one generator, in a journal in `folder`. `seed` is part of a sample's key."""

    def __init__(self, generator: Any, folder: Path, *, seed: int, advance: Advance) -> None:
        self._generator = generator
        self._seed = seed
        self._advance = advance
        self._identity = identity(generator)
        # One file per generator, so that samples of others need not be read.
        path = folder / f"samples-{content_key(self._identity)[:16]}.jsonl"
        self._journal = Journal(path, Completion, column="sample")

    def sample(self, prompts: Sequence[Messages | str], sampling: Sampling, samples: range) -> list[list[Completion]]:
        """The given `samples` (indices from 0) of every prompt, in order. Raises the generator's errors; samples that
        arrived before an error are kept."""
        keys = [{k: self._key(prompt, sampling, k) for k in samples} for prompt in prompts]
        stored = self._journal.rows()
        self._advance(sum(key in stored for row in keys for key in row.values()))
        requests = {
            i: SampleRequest(prompt, sampling, missing)
            for i, (prompt, row) in enumerate(zip(prompts, keys, strict=True))
            if (missing := tuple(k for k, key in row.items() if key not in stored))
        }
        if requests:
            self._generate(requests, keys)
        stored = self._journal.rows()
        lost = sum(key not in stored for row in keys for key in row.values())
        if lost:
            raise ModelError(f"generator {self._identity['name']} has left out {lost} samples; expected all of them")
        return [[stored[key] for key in row.values()] for row in keys]

    @staticmethod
    def models(completions: Iterable[Completion]) -> dict[str, int]:
        """Samples by the model that a server says has written them, for a report; empty without a server."""
        named = Counter(filter(None, (answering(c.model, c.fingerprint) for c in completions)))
        return dict(sorted(named.items()))

    def _generate(self, requests: dict[int, SampleRequest], keys: list[dict[int, str]]) -> None:
        indices = list(requests)
        seen: set[str] = set()
        lock = threading.Lock()

        def arrived(rows: Sequence[Sampled]) -> None:
            keyed = [(keys[indices[row.request]][row.sample], row.completion) for row in rows]
            with lock:
                if repeated := [key for key, _ in keyed if key in seen]:
                    raise ModelError(
                        f"generator {self._identity['name']} has given {len(repeated)} samples twice; expected "
                        "each once"
                    )
                seen.update(key for key, _ in keyed)
            self._journal.append(keyed)
            self._advance(len(rows))

        self._generator.generate(list(requests.values()), seed=self._seed, arrived=arrived)

    def _key(self, prompt: Messages | str, sampling: Sampling, sample: int) -> str:
        text = prompt if isinstance(prompt, str) else [m.model_dump() for m in prompt]
        content = [self._identity, sampling.model_dump(mode="json"), text, self._seed, sample]
        return content_key(content)
