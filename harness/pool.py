"""The pool of samples: what a generator has written is kept and never written again.

A sample's key is the SHA-256 of (the generator's identity, the sampling, the prompt, the seed, which sample it is).
So N=4 after N=2 samples two more a prompt, N=2 is the first two of N=4, and a run that was killed asks for the rest.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.components import identity
from harness.errors import ModelError
from harness.journal import Journal, content_key
from harness.protocols import Sampled, SampleRequest
from harness.types import Advance, Completion, Messages, Sampling


class Pool:
    """Samples of one generator, kept in a folder of journals. `seed` is part of what a sample is."""

    def __init__(self, generator: Any, folder: Path, *, seed: int, advance: Advance) -> None:
        self._generator = generator
        self._seed = seed
        self._advance = advance
        self._identity = identity(generator)
        # A file a generator: what others have written need not be read.
        path = folder / f"samples-{content_key(self._identity)[:16]}.jsonl"
        self._journal = Journal(path, Completion, column="sample")

    def sample(self, prompts: Sequence[Messages | str], sampling: Sampling, samples: range) -> list[list[Completion]]:
        """The wanted samples (counted from 0) of every prompt, in order. Raises what the generator raises; what had
        arrived by then is kept."""
        keys = [{k: self._key(prompt, sampling, k) for k in samples} for prompt in prompts]
        known = self._journal.rows()
        self._advance(sum(key in known for row in keys for key in row.values()))
        requests = {
            place: SampleRequest(prompt, sampling, missing)
            for place, (prompt, row) in enumerate(zip(prompts, keys, strict=True))
            if (missing := tuple(k for k, key in row.items() if key not in known))
        }
        if requests:
            self._generate(requests, keys)
        known = self._journal.rows()
        lost = sum(key not in known for row in keys for key in row.values())
        if lost:
            raise ModelError(f"generator {self._identity['name']} has left out {lost} samples; it must give every one")
        return [[known[key] for key in row.values()] for row in keys]

    def _generate(self, requests: dict[int, SampleRequest], keys: list[dict[int, str]]) -> None:
        places = list(requests)
        seen: set[str] = set()
        lock = threading.Lock()

        def arrived(rows: Sequence[Sampled]) -> None:
            named = [(keys[places[row.request]][row.sample], row.completion) for row in rows]
            with lock:
                if twice := [key for key, _ in named if key in seen]:
                    raise ModelError(
                        f"generator {self._identity['name']} has given {len(twice)} samples twice; expected each once"
                    )
                seen.update(key for key, _ in named)
            self._journal.append(named)
            self._advance(len(rows))

        self._generator.generate(list(requests.values()), seed=self._seed, arrived=arrived)

    def _key(self, prompt: Messages | str, sampling: Sampling, sample: int) -> str:
        asked = prompt if isinstance(prompt, str) else [m.model_dump() for m in prompt]
        content = [self._identity, sampling.model_dump(mode="json"), asked, self._seed, sample]
        return content_key(content)
