"""Samples with vLLM in this process, where the package is installed."""

import hashlib
import importlib.util
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from harness import models
from harness.components import Component, ModelReference
from harness.errors import ModelError
from harness.protocols import Arrived, Sampled, SampleRequest
from harness.types import Completion

CHUNK = 256
"""Samples that are handed over together: what a killed run loses at most."""


class Vllm(Component):
    """Samples from `model` with `vllm.LLM`, which batches by itself. Every sample has a seed of its own, so that sample
    k does not depend on N. Written against vLLM's documented interface (`LLM.chat`, `LLM.generate`, `SamplingParams`)
    and tested against a stand-in: it has not been run on a GPU. `memory` is the share of the GPU's memory that vLLM may
    take, `parallel` the number of GPUs. Raises ModelError where vllm is not installed.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"memory", "parallel"})

    model: ModelReference
    revision: str | None = None
    dtype: models.Dtype = "bfloat16"
    memory: float = Field(0.9, gt=0, le=1)
    parallel: int = Field(1, ge=1)

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, **models.identity(self.model, self.revision)}

    def check(self) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise ModelError(
                "generator 'vllm' needs the package vllm on a machine with a GPU: pip install vllm; or serve the model "
                "elsewhere and use {name: openai, base_url: ...}"
            )
        models.check(self.model, self.revision)

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        self.check()
        from vllm import LLM

        llm = LLM(
            model=models.local_path(self.model),
            revision=self.revision,
            dtype=self.dtype,
            gpu_memory_utilization=self.memory,
            tensor_parallel_size=self.parallel,
            trust_remote_code=False,
        )
        wanted = [(place, k) for place, request in enumerate(requests) for k in request.samples]
        for kind in (str, tuple):
            part = [(place, k) for place, k in wanted if isinstance(requests[place].prompt, kind)]
            for start in range(0, len(part), CHUNK):
                chunk = part[start : start + CHUNK]
                prompts: list[Any] = [_prompt(requests[place]) for place, _ in chunk]
                params = [_params(requests[place], k, seed) for place, k in chunk]
                ask = llm.generate if kind is str else llm.chat
                outputs = ask(prompts, params, use_tqdm=False)
                rows = zip(chunk, outputs, strict=True)
                arrived([Sampled(place, k, _completion(output)) for (place, k), output in rows])


def _prompt(request: SampleRequest) -> Any:
    return request.prompt if isinstance(request.prompt, str) else [m.model_dump() for m in request.prompt]


def _params(request: SampleRequest, k: int, seed: int) -> Any:
    from vllm import SamplingParams

    sampling = request.sampling
    digest = hashlib.sha256(repr((seed, _prompt(request), k)).encode()).digest()
    return SamplingParams(
        n=1,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_new_tokens,
        stop=list(sampling.stop) or None,
        seed=int.from_bytes(digest[:4]) >> 1,
    )


def _completion(output: Any) -> Completion:
    (written,) = output.outputs
    reason = "length" if written.finish_reason == "length" else "stop"
    return Completion(text=written.text, finish_reason=reason, tokens=len(written.token_ids))
