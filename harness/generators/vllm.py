"""Samples with vLLM in this process, if the package is installed."""

import hashlib
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from harness.components import ModelReference
from harness.errors import ModelError
from harness.models import chat
from harness.models.conversation import tokenizer_with
from harness.models.decode.thinking import Marks
from harness.models.load import check as check_model
from harness.models.load import identity as model_identity
from harness.models.load import local_path
from harness.models.processor import AutoDtype
from harness.models.templates.variables import TemplateVariables
from harness.protocols import Arrived, Generator, Sampled, SampleRequest
from harness.types import Completion

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK = 256
"""Samples that are handed over together; a killed run loses at most this many."""


class Vllm(Generator):
    """Samples from `model` with `vllm.LLM`, which does its own batching. Every sample has its own seed, so sample k
    does not depend on N. Written against vLLM's documented interface (`LLM.chat`, `LLM.generate`, `SamplingParams`) and
    tested against a stub: it has not been run on a GPU. `chat_template_kwargs`: as in `hf`. A thought's budget is added
    to the answer's, since vLLM doesn't tell them apart. `memory`: the share of the GPU's memory that vLLM may use;
    `parallel`: the number of GPUs. Raises ModelError if vllm is not installed.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"memory", "parallel"})

    model: ModelReference
    revision: str | None = None
    dtype: AutoDtype = Field("auto", validate_default=True)
    memory: float = Field(0.9, gt=0, le=1)
    parallel: int = Field(1, ge=1)
    chat_template_kwargs: TemplateVariables = Field(default_factory=dict)

    def models_in_process(self) -> list[str]:
        return [self.model]

    def identity(self) -> dict[str, Any]:
        values = self.chat_template_kwargs
        variables = {"chat_template_kwargs": values} if values else {}
        return {"name": self.name, "dtype": self.dtype, **model_identity(self.model, self.revision), **variables}

    def check(self) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise ModelError(
                "generator 'vllm' needs the package vllm on a machine with a GPU: pip install vllm; or serve the model "
                "elsewhere and use {name: openai, base_url: ...}"
            )
        check_model(self.model, self.revision, use=None)  # vLLM compares weights itself
        if self.chat_template_kwargs:
            tokenizer_with(self.model, self.revision, self.chat_template_kwargs)

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
        tokenizer = tokenizer_with(self.model, self.revision, self.chat_template_kwargs)
        marks = Marks(tokenizer)
        template = {"chat_template": tokenizer.chat_template} if self.chat_template_kwargs else {}
        samples = [(i, k) for i, request in enumerate(requests) for k in request.samples]
        for kind in (str, tuple):
            of_kind = [(i, k) for i, k in samples if isinstance(requests[i].prompt, kind)]
            for start in range(0, len(of_kind), CHUNK):
                chunk = of_kind[start : start + CHUNK]
                prompts: list[Any] = [_prompt(requests[i]) for i, _ in chunk]
                params = [_sampling_params(requests[i], k, seed) for i, k in chunk]
                if kind is str:
                    outputs = llm.generate(prompts, params, use_tqdm=False)
                else:
                    outputs = llm.chat(prompts, params, use_tqdm=False, **template)
                rows = [(requests[i], i, k, output) for (i, k), output in zip(chunk, outputs, strict=True)]
                arrived(
                    [Sampled(i, k, _completion(output, request, tokenizer, marks)) for request, i, k, output in rows]
                )


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
        max_tokens=sampling.most_tokens,
        stop=list(sampling.stop) or None,
        seed=int.from_bytes(digest[:4]) >> 1,
    )


def _completion(output: Any, request: SampleRequest, tokenizer: "PreTrainedTokenizerBase", marks: Marks) -> Completion:
    """vLLM's text leaves out special tokens, also those that mark thoughts: then it is written anew from the tokens."""
    (sample,) = output.outputs
    reason = "length" if sample.finish_reason == "length" else "stop"
    text = sample.text
    if marks.mark(sample.token_ids):
        text = marks.text(sample.token_ids)
        text = text[: min((at for stop in request.sampling.stop if (at := text.find(stop)) >= 0), default=len(text))]
    prompt = [] if isinstance(request.prompt, str) else chat.encode_prompt(tokenizer, request.prompt)
    opened = marks.opened(prompt) is not None
    return Completion(text=text, finish_reason=reason, tokens=len(sample.token_ids), opened=opened)
