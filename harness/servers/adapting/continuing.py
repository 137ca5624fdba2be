"""Served models that continue prompts of token ids and return the ids that they write, and that say how likely given
ids are: vLLM."""

import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, PrivateAttr

from harness.components import GeneratorField
from harness.models.batching import Job
from harness.models.decode.elsewhere import Elsewhere
from harness.models.decode.rows import EMPTY, Sample
from harness.protocols import Arrived, Generator, Sampled
from harness.servers.adapting.chatting import ServedChat
from harness.servers.pace import HeldTooLong, Stopped
from harness.servers.spending import Tab
from harness.serving.engine import Named
from harness.types import Completion

T = TypeVar("T")
ROUNDING = 1e-5
"""How far above 0 a log-probability may be rounded."""
LOOK = 0.2
"""Seconds after which one looks whether the run is to end."""


class Given(NamedTuple):
    """Token ids of a prompt, at least one, and of a text after it."""

    prompt: list[int]
    text: list[int]


class Continuing(ServedChat):
    """A served model that also continues token ids: prompts are those of a decoder in this process, to the token."""

    @property
    def parallel_requests(self) -> int:
        """Calls at a time."""
        return 1

    _adapter: Path | None = PrivateAttr(None)
    _has_adapter: set[str] = PrivateAttr(default_factory=set)
    _adapter_lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def on(self, engine: Named, adapter: Path | None = None) -> "Continuing":
        """The same for a model of another engine. `adapter`: a PEFT adapter on it, which each replica is given before
        its first call."""
        fields = {**dict(self), "engine": engine, "model": engine.engine.served_name or self.model}
        if adapter is not None:
            fields["model"] = f"adapter-{hashlib.sha256(str(adapter).encode()).hexdigest()[:16]}"
        other = type(self).model_construct(_fields_set=self.model_fields_set, **fields)
        other._adapter = adapter
        return other

    def write(
        self,
        jobs: Sequence[Job],
        model: Elsewhere,
        *,
        seed: int,
        arrived: Arrived,
        then: Callable[[Sampled], Job | None],
        threads: int,
        look: Callable[[], None],
    ) -> None:
        """Draw the samples of all jobs, as `harness.models.decoding.decode` does: `threads` calls at a time. `look` is
        called now and then; what it raises ends the calls. Raises `failure` for a sample that can't be had; those that
        arrived before are kept."""
        stop, waiting = threading.Event(), dict[Future[Completion], Sample]()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="write")

        def submit(request: int, job: Job) -> None:
            for sample in model.samples(request, job):
                waiting[pool.submit(self._completion, sample, model, seed, stop)] = sample

        try:
            for request, job in enumerate(jobs):
                submit(request, job)
            while waiting:
                for future in wait(waiting, LOOK, FIRST_COMPLETED).done:
                    sample = waiting.pop(future)
                    sampled = Sampled(sample.request, sample.sample, future.result())
                    arrived([sampled])
                    if (following := then(sampled)) is not None:
                        submit(sample.request, following)
                look()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def logps(
        self,
        rows: Sequence[Given],
        *,
        arrived: Callable[[int, float], None],
        threads: int,
        look: Callable[[], None],
    ) -> None:
        """Call `arrived` with the index of each row and the log-probability of its text after its prompt, in nats,
        summed over tokens: by vLLM's `prompt_logprobs`. As `write` otherwise."""
        stop = threading.Event()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
        try:
            waiting = {pool.submit(self._logp, row, stop): i for i, row in enumerate(rows)}
            while waiting:
                for future in wait(waiting, LOOK, FIRST_COMPLETED).done:
                    arrived(waiting.pop(future), future.result())
                look()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _logp(self, row: Given, stop: threading.Event) -> float:
        ids = [*row.prompt, *row.text]
        body: dict[str, Any] = {"model": self.model, "prompt": ids, "max_tokens": 1, "prompt_logprobs": 0}
        values = self._asked(body, lambda reply: _logprobs(reply, ids), Tab(stop=stop), "log-probabilities")
        return math.fsum(values[len(row.prompt) :])

    def _completion(self, sample: Sample, model: Elsewhere, seed: int, stop: threading.Event) -> Completion:
        if sample.limit <= 0:
            return EMPTY
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": sample.prompt,
            "temperature": sample.sampling.temperature,
            "top_p": sample.sampling.top_p,
            "seed": _seed(sample, seed),
            "max_tokens": sample.limit,
            "stop_token_ids": model.ends,
            "return_token_ids": True,
        }
        return model.completion(sample, self._asked(body, _tokens, Tab(stop=stop), "an answer"))

    def _asked(self, body: dict[str, Any], read: Callable[[Any], T], tab: Tab, what: str) -> T:
        """`read` of the reply to a request at /completions. Raises `failure`."""
        import openai

        try:
            return self._persist(lambda: self._send("/completions", body, read), tab)[0]
        except (openai.OpenAIError, HeldTooLong, ValueError, Stopped) as error:
            raise self.failure(
                f"{self.role} '{self.name}': {self.model} was asked for {what} in vain ({self._error_text(error)}); "
                "what arrived before is kept: run again"
            ) from None

    @contextmanager
    def _called(self) -> Iterator[str]:
        with super()._called() as address:
            if self._adapter is not None:
                self._give_adapter(address, self._adapter)
            yield address

    def _give_adapter(self, address: str, adapter: Path) -> None:
        """Have a replica load the adapter, unless it has."""
        import httpx
        import openai

        from harness.servers.network import limits

        with self._adapter_lock:
            if address in self._has_adapter:
                return
            body = {"lora_name": self.model, "lora_path": str(adapter)}
            try:
                self._connect(address).post("/load_lora_adapter", cast_to=httpx.Response, body=body)
            except openai.APIStatusError as error:
                if error.status_code >= 500:
                    raise
                if "already" not in (text := self._error_text(error)):
                    what = f"the server doesn't load the adapter in {adapter} ({text})"
                    raise self.failure(f"{self.role} '{self.name}', {self._shown_address()}: {what}") from None
            finally:
                limits.end()
            self._has_adapter.add(address)


def _of_engine(value: Generator) -> Generator:
    if not isinstance(value, Continuing) or value.engine is None:
        raise ValueError("expected {name: openai, engine: NAME}, an engine of runtime.engines")
    if value.engine.engine.name not in ("vllm", "command"):
        raise ValueError(f"expected an engine that takes token ids: vllm, not {value.engine.engine.name}")
    return value


OfEngine = Annotated[GeneratorField, AfterValidator(_of_engine)]
"""A recipe's field of a generator that asks an engine, by token ids."""


def _tokens(body: Any) -> list[int]:
    """The ids that were written. Raises ValueError for a reply without them."""
    try:
        (choice,) = body["choices"]
        ids = choice["token_ids"]
    except (KeyError, TypeError, ValueError):
        ids = None
    if not isinstance(ids, list) or not all(type(one) is int for one in ids):
        raise ValueError("the reply has no token_ids: expected a vLLM of at least 0.10.2")
    return ids


def _logprobs(body: Any, ids: Sequence[int]) -> list[float]:
    """The log-probability of each prompt token after those before it; 0 for the first, which has none. Raises
    ValueError for a reply without them, or with those of other tokens."""
    try:
        (choice,) = body["choices"]
        first, *others = choice["prompt_logprobs"]
        values = [float(given[str(token)]["logprob"]) for token, given in zip(ids[1:], others, strict=True)]
    except (KeyError, TypeError, ValueError):
        raise ValueError("the reply has no prompt_logprobs of the tokens that were sent: expected vLLM") from None
    if first is not None or not all(math.isfinite(value) and value <= ROUNDING for value in values):
        raise ValueError("the reply's prompt_logprobs are no log-probabilities")
    return [0.0, *values]


def _seed(sample: Sample, seed: int) -> int:
    """A seed in [0, 2^31) of one sample, whatever else is asked."""
    return int.from_bytes(hashlib.sha256(repr((seed, sample.prompt, sample.sample)).encode()).digest()[:4]) >> 1
