"""Samples with vLLM in this process, if the package is installed."""

import hashlib
import importlib.util
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from harness.components import ModelReference
from harness.errors import ModelError
from harness.models.load import check as check_model
from harness.models.load import identity as model_identity
from harness.models.load import local_path
from harness.models.processor import AutoDtype
from harness.protocols import Arrived, Generator, Sampled, SampleRequest
from harness.types import Completion

CHUNK = 256
"""Samples that are handed over together; a killed run loses at most this many."""


class Vllm(Generator):
    """Samples from `model` with `vllm.LLM`, which does its own batching. Every sample has its own seed, so sample k
    does not depend on N. Written against vLLM's documented interface (`LLM.chat`, `LLM.generate`, `SamplingParams`) and
    tested against a stub: it has not been run on a GPU. `memory`: the share of the GPU's memory that vLLM may use;
    `parallel`: the number of GPUs. Raises ModelError if vllm is not installed.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"memory", "parallel"})

    model: ModelReference
    revision: str | None = None
    dtype: AutoDtype = Field("auto", validate_default=True)
    memory: float = Field(0.9, gt=0, le=1)
    parallel: int = Field(1, ge=1)

    def models_in_process(self) -> list[str]:
        return [self.model]

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, **model_identity(self.model, self.revision)}

    def check(self) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise ModelError(
                "generator 'vllm' needs the package vllm on a machine with a GPU: pip install vllm; or serve the model "
                "elsewhere and use {name: openai, base_url: ...}"
            )
        check_model(self.model, self.revision, use=None)  # vLLM compares weights itself

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        self.check()
        from vllm import LLM

        llm = LLM(
            model=local_path(self.model),
            revision=self.revision,
            dtype=self.dtype,
            gpu_memory_utilization=self.memory,
            tensor_parallel_size=self.parallel,
            trust_remote_code=False,
        )
        samples = [(i, k) for i, request in enumerate(requests) for k in request.samples]
        for kind in (str, tuple):
            of_kind = [(i, k) for i, k in samples if isinstance(requests[i].prompt, kind)]
            for start in range(0, len(of_kind), CHUNK):
                chunk = of_kind[start : start + CHUNK]
                prompts: list[Any] = [_prompt(requests[i]) for i, _ in chunk]
                params = [_sampling_params(requests[i], k, seed) for i, k in chunk]
                generate = llm.generate if kind is str else llm.chat
                outputs = generate(prompts, params, use_tqdm=False)
                rows = zip(chunk, outputs, strict=True)
                arrived([Sampled(i, k, _completion(output)) for (i, k), output in rows])


def _prompt(request: SampleRequest) -> Any:
    return request.prompt if isinstance(request.prompt, str) else [m.model_dump() for m in request.prompt]


def _sampling_params(request: SampleRequest, k: int, seed: int) -> Any:
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
    (sample,) = output.outputs
    reason = "length" if sample.finish_reason == "length" else "stop"
    return Completion(text=sample.text, finish_reason=reason, tokens=len(sample.token_ids))
