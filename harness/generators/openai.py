"""Samples from any server with an OpenAI-compatible endpoint: vLLM, `transformers serve`, a vendor."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, ClassVar

from pydantic import Field

from harness.errors import ModelError
from harness.pace import HeldTooLong
from harness.protocols import Arrived, Sampled, SampleRequest
from harness.served import Served
from harness.spending import Tab
from harness.types import Completion, FinishReason


class Openai(Served):
    """Asks a served model for every sample by itself, `concurrency` at a time (see `harness.served` for the address,
    the key and the retries): a conversation at /chat/completions, a text to be continued at /completions.

    Sample k of a prompt has a `seed` of its own, which servers that know seeds sample by. A prompt that the server
    refuses (too long for its window) gets an empty completion that ended by length, as in process. What still fails
    after the retries raises ModelError once all other samples have arrived: they are kept, and the next run asks for
    the rest. A reply that was cut by a content filter counts as ended.
    """

    role: ClassVar[str] = "generator"
    unkeyed: ClassVar[frozenset[str]] = Served.unkeyed | {"concurrency"}

    concurrency: int = Field(16, ge=1, le=512)

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        self.check()
        wanted = [(place, k) for place, request in enumerate(requests) for k in request.samples]
        failures: list[str] = []

        def one(place: int, k: int) -> None:
            try:
                completion = self._sample(requests[place], k, seed)
            except _Failed as error:
                failures.append(str(error))
                return
            arrived([Sampled(place, k, completion)])

        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="generate")
        try:
            futures = [pool.submit(one, place, k) for place, k in wanted]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        if failures:
            raise ModelError(
                f"generator '{self.name}': {len(failures)} of {len(wanted)} samples could not be had from {self.model} "
                f"({failures[0]}); the others are kept: run again"
            )

    def _sample(self, request: SampleRequest, k: int, seed: int) -> Completion:
        import openai

        try:
            return self._persist(lambda: self._read(self._create(request, _seed(request, k, seed))), Tab())
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise self._refused(error) from None
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if "context" in str(error) or "long" in str(error) or "length" in str(error):
                return Completion(text="", finish_reason="length", tokens=0)
            raise self._refused(error) from None
        except (openai.OpenAIError, HeldTooLong, ValueError) as error:  # ValueError: a reply that is not JSON
            raise _Failed(self._told(error)) from None

    def _create(self, request: SampleRequest, seed: int) -> Any:
        sampling = request.sampling
        options: dict[str, Any] = {
            "model": self.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed,
        }
        if sampling.stop:
            options["stop"] = list(sampling.stop)
        client = self._connect()
        if isinstance(request.prompt, str):
            return client.completions.create(prompt=request.prompt, max_tokens=sampling.max_new_tokens, **options)
        options["messages"] = [m.model_dump() for m in request.prompt]
        return self._limited(client.chat.completions.create, sampling.max_new_tokens, options)

    def _read(self, reply: Any) -> Completion:
        if not reply.choices:
            raise ValueError("the server's reply has no choices")
        choice = reply.choices[0]
        text = choice.message.content if hasattr(choice, "message") else choice.text
        reason: FinishReason = "length" if choice.finish_reason == "length" else "stop"
        tokens = reply.usage.completion_tokens if reply.usage else 0
        return Completion(text=text or "", finish_reason=reason, tokens=tokens)


class _Failed(Exception):
    """One sample that could not be had, for now."""


def _seed(request: SampleRequest, k: int, seed: int) -> int:
    """In [0, 2^31): of one sample, whatever else is asked for with it."""
    asked = request.prompt if isinstance(request.prompt, str) else [m.model_dump() for m in request.prompt]
    return int.from_bytes(hashlib.sha256(repr((seed, asked, k)).encode()).digest()[:4]) >> 1
