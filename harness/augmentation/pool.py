"""The pool of samples: every sample of a generator is stored, and never generated again.

A sample's key is the SHA-256 of (the generator's identity, the sampling, the prompt, the seed, the sample's index). So
N=4 after N=2 generates two more samples per prompt, N=2 is the first two of N=4, and a killed run generates only the
rest. A sample that a server refuses, as content filters do, is None, and is not stored: a later stage asks again.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.components import identity
from harness.engine.journal import content_key
from harness.engine.shards.journal import ShardJournal
from harness.errors import ModelError, SamplesRefused
from harness.protocols import Generator, Sampled, SampleRequest
from harness.servers.replies import answering
from harness.types import Advance, Completion, Messages, Sampling

_log = logging.getLogger("harness")


class Pool:
    """The samples of one generator, in a journal in `folder`. `seed` is part of a sample's key. `shard`: the bits of
    the running shard (`harness.engine.shards`)."""

    def __init__(self, generator: Generator, folder: Path, *, seed: int, advance: Advance, shard: str = "") -> None:
        self._generator = generator
        self._seed = seed
        self._advance = advance
        self.refusal: str | None = None
        """Why samples were refused, if any were."""
        self._identity = identity(generator)
        # Files of its own per generator, so that samples of others need not be read.
        path = folder / f"samples-{content_key(self._identity)[:16]}.jsonl"
        self._journal = ShardJournal(path, shard, Completion, column="sample")

    def sample(
        self, prompts: Sequence[Messages | str], sampling: Sampling, samples: range
    ) -> list[list[Completion | None]]:
        """The given `samples` (indices from 0) of every prompt, in order; None where a server that answers other
        prompts has refused this one. Raises the generator's errors; samples that arrived before an error are kept."""
        keys = [{k: self._key(prompt, sampling, k) for k in samples} for prompt in prompts]
        wanted = [key for row in keys for key in row.values()]
        stored = self._journal.rows(wanted)
        self._advance(sum(key in stored for key in wanted))
        requests: list[_Request] = []
        known: _Request | None = None
        for prompt, row in zip(prompts, keys, strict=True):
            if missing := tuple(k for k, key in row.items() if key not in stored):
                requests.append(_Request(SampleRequest(prompt, sampling, missing), row))
            if known is None and (found := [k for k, key in row.items() if key in stored]):
                known = _Request(SampleRequest(prompt, sampling, (found[0],)), {})
        refused = self._generate(requests, known) if requests else set()
        stored = self._journal.rows(wanted)
        lost = sum(key not in stored and key not in refused for key in wanted)
        if lost:
            raise ModelError(f"generator {self._identity['name']} has left out {lost} samples; expected all of them")
        return [[stored.get(key) for key in row.values()] for row in keys]

    @staticmethod
    def models(completions: Iterable[Completion]) -> dict[str, int]:
        """Samples by the model that a server says has written them, for a report; empty without a server."""
        named = Counter(filter(None, (answering(c.model, c.fingerprint) for c in completions)))
        return dict(sorted(named.items()))

    def _generate(self, requests: "list[_Request]", known: "_Request | None") -> set[str]:
        """Have samples generated; returns the keys of those that were refused. `known`: a sample that is stored, if
        there is any. Where all are refused, it is asked for too: a server that writes it doesn't refuse everything."""
        try:
            return self._ask(requests)
        except SamplesRefused:
            if known is None:
                raise
            return self._ask([known, *requests])

    def _ask(self, requests: "list[_Request]") -> set[str]:
        """As `_generate`. Raises SamplesRefused if nothing else happened."""
        seen: set[str] = set()
        waiting: list[tuple[str, Completion]] = []
        queue, writing = threading.Lock(), threading.Lock()
        alone = self._generator.is_served  # its samples don't depend on each other: each one that arrived counts

        def arrived(rows: Sequence[Sampled]) -> None:
            keyed = [(requests[row.request].keys.get(row.sample), row.completion) for row in rows]
            new = [(key, completion) for key, completion in keyed if key is not None]
            with queue:
                if repeated := [key for key, _ in new if key in seen]:
                    raise ModelError(
                        f"generator {self._identity['name']} has given {len(repeated)} samples twice; expected "
                        "each once"
                    )
                seen.update(key for key, _ in new)
                waiting.extend(new)
            with writing:  # while one thread waits for the disk, others' samples queue up
                with queue:
                    batch = waiting.copy() if alone else new
                    waiting.clear()
                self._journal.append(batch, together=not alone)
            self._advance(len(new))

        try:
            self._generator.generate([r.request for r in requests], seed=self._seed, arrived=arrived)
        except SamplesRefused as error:
            if not error.answered:
                raise
            self.refusal = str(error)
            _log.info("%s", error)
            refused = {key for i, k in error.samples if (key := requests[i].keys.get(k)) is not None}
            self._advance(len(refused))
            return refused
        return set()

    def _key(self, prompt: Messages | str, sampling: Sampling, sample: int) -> str:
        text = prompt if isinstance(prompt, str) else [m.model_dump() for m in prompt]
        content = [self._identity, sampling.model_dump(mode="json"), text, self._seed, sample]
        return content_key(content)


class _Request(NamedTuple):
    """A request, with the keys of its samples; none for samples that are stored already."""

    request: SampleRequest
    keys: Mapping[int, str]
