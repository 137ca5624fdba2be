"""Samples from any server with an OpenAI-compatible endpoint: vLLM, `transformers serve`, a vendor."""

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, ClassVar

from pydantic import Field

from harness.errors import ModelError, SamplesRefused
from harness.protocols import Arrived, Generator, Sampled, SampleRequest
from harness.servers.adapting.continuing import Continuing
from harness.servers.adapting.opening import Opening
from harness.servers.adapting.refusals import about_length
from harness.servers.faults import is_refusal
from harness.servers.pace import HeldTooLong
from harness.servers.replies import sample
from harness.servers.spending import Tab
from harness.types import Completion


class Openai(Continuing, Generator):
    """Asks a served model for each sample separately, `concurrency` at a time (see `harness.servers.served` for the
    address, the key and the retries): conversations at /chat/completions, texts to continue at /completions.

    Each sample of a prompt has its own `seed`, for servers that support seeds; one that refuses them is asked without,
    with a warning. A text ends before its first stop text, whether the server knows of it or not. A server that refuses
    the temperature or `top_p` of the samples stops the run, since they would be others. A prompt that the server
    rejects as too long gets an empty completion with finish reason `length`, as in process. Samples that still fail
    after the retries raise ModelError once all others have arrived; those are kept, and the next run asks for the rest;
    where none arrives, the first failures do. Samples that a server refuses because of their prompt (HTTP 400 or 422),
    while it writes others, raise SamplesRefused. A reply that was cut off by a content filter counts as finished.
    """

    role: ClassVar[str] = "generator"
    unkeyed: ClassVar[frozenset[str]] = Continuing.unkeyed | {"concurrency"}

    concurrency: int = Field(16, ge=1, le=512)
    """Samples that are under way at a time."""

    def _gives_samples(self) -> bool:
        return True

    @property
    def parallel_requests(self) -> int:
        return self.concurrency

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        self.check()
        samples = [(i, k) for i, request in enumerate(requests) for k in request.samples]
        failures: list[str] = []
        refused: list[tuple[int, int]] = []
        reasons: list[str] = []
        opening, stop = Opening(), threading.Event()

        def generate_one(i: int, k: int) -> None:
            opening.enter(stop)
            try:
                completion = self._sample(requests[i], k, seed)
            except _SampleError as error:
                if error.refused:
                    refused.append((i, k))
                    reasons.append(str(error))
                else:
                    failures.append(str(error))
                if opening.failed(str(error), refused=not error.refused):
                    raise self._vain(error, refused) from None
                return
            opening.answered()
            arrived([Sampled(i, k, completion)])

        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="generate")
        try:
            futures = [pool.submit(generate_one, i, k) for i, k in samples]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
        if failures:
            raise ModelError(
                f"generator '{self.name}': {len(failures)} of {len(samples)} requests to {self.model} failed "
                f"({failures[0]}); the other samples are kept: run again"
            )
        if refused:
            several = f"{len(refused)} of {len(samples)} samples: {reasons[0]}"
            text = f"generator '{self.name}': {several if opening.is_open else reasons[0]}"
            raise SamplesRefused(text, refused, answered=opening.is_open)

    def _vain(self, error: "_SampleError", refused: Sequence[tuple[int, int]]) -> ModelError:
        """The error for a server that answers nothing."""
        text = f"generator '{self.name}': {error}"
        return SamplesRefused(text, refused, answered=False) if error.refused else ModelError(text)

    def _sample(self, request: SampleRequest, k: int, seed: int) -> Completion:
        import openai

        try:
            return self._persist(lambda: self._create(request, _seed(request, k, seed)), Tab())
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if about_length(str(error.body)):
                return Completion(text="", finish_reason="length", tokens=0)
            raise _SampleError(f"the server refused {self.model} ({self._error_text(error)})", refused=True) from None
        except (openai.OpenAIError, HeldTooLong, ValueError) as error:  # ValueError: a broken reply
            if is_refusal(error):
                raise self._refused(error) from None
            raise _SampleError(self._error_text(error)) from None

    def _create(self, request: SampleRequest, seed: int) -> Completion:
        sampling = request.sampling
        options: dict[str, Any] = {
            "model": self.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed,
        }
        if sampling.stop:
            options["stop"] = list(sampling.stop)
        options["max_tokens"] = self.room(sampling.most_tokens)
        if is_chat := not isinstance(request.prompt, str):
            options["messages"] = [m.model_dump() for m in request.prompt]
        else:
            options["prompt"] = request.prompt
        path = "/chat/completions" if is_chat else "/completions"
        completion, _ = self._send(path, options, partial(self._read, is_chat=is_chat))
        return _cut(completion, sampling.stop)

    def _read(self, body: Any, *, is_chat: bool) -> Completion:
        """Raises ValueError for anything but a completion."""
        reply = sample(body, self._without_key, is_chat=is_chat)
        return Completion(
            text=reply.text,
            finish_reason=reply.finish_reason,
            tokens=reply.tokens or 0,
            model=reply.origin.model,
            fingerprint=reply.origin.fingerprint,
        )


class _SampleError(Exception):
    """A sample that could not be generated. `refused`: the server didn't want to; else a later attempt may succeed."""

    def __init__(self, text: str, *, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


def _cut(completion: Completion, stop: Sequence[str]) -> Completion:
    """A completion up to the first of the stop texts, for servers that don't know of them."""
    ends = [end for text in stop if (end := completion.text.find(text)) >= 0]
    if not ends:
        return completion
    return completion.model_copy(update={"text": completion.text[: min(ends)], "finish_reason": "stop"})


def _seed(request: SampleRequest, k: int, seed: int) -> int:
    """A seed in [0, 2^31) of one sample, independent of the other samples requested."""
    prompt = request.prompt if isinstance(request.prompt, str) else [m.model_dump() for m in request.prompt]
    return int.from_bytes(hashlib.sha256(repr((seed, prompt, k)).encode()).digest()[:4]) >> 1
