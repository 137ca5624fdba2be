"""Samples with vLLM in this process, if the package is installed."""

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from harness.components import ModelReference
from harness.errors import ModelError
from harness.models import chat
from harness.models.conversation import tokenizer_with
from harness.models.load import check as check_model
from harness.models.load import identity as model_identity
from harness.models.load import local_path, sampling_identity
from harness.models.processor import AutoDtype
from harness.models.templates.checking import check_prompts
from harness.models.templates.variables import TemplateVariables
from harness.protocols import Arrived, Generator, Sampled, SampleRequest
from harness.types import Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from harness.models.decode.elsewhere import Elsewhere
    from harness.models.decode.rows import Sample

QUEUED = 1024
"""Samples that the engine is given at a time: enough to keep its batches full."""


class Vllm(Generator):
    """Samples from `model` with `vllm.LLMEngine`, which does its own batching: samples arrive as they finish, and
    others take their places. It gets the token ids that `hf` would read, and returns those that it writes. Every sample
    has its own seed, so sample k does not depend on N; vLLM's kernels may still round differently from batch to batch.

    A thought's budget is added to the answer's: vLLM doesn't close thoughts. `memory`: the share of the GPU's memory
    that vLLM may use; `parallel`: the number of GPUs.

    Run on a CPU, not on a GPU. Raises ModelError if vllm is not installed.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"memory", "parallel"})
    needs: ClassVar[tuple[str, ...]] = ("torch", "transformers")

    model: ModelReference
    """A built-in name, a hub id or a local folder."""
    revision: str | None = None
    """Of a hub id: a commit, tag or branch."""
    dtype: AutoDtype = Field("auto", validate_default=True)
    """Of the weights in memory; `auto`: bfloat16 where this machine is fast at it, else float32."""
    memory: float = Field(0.9, gt=0, le=1)
    parallel: int = Field(1, ge=1)
    window: int | None = Field(None, ge=16)
    """The most tokens of a prompt and its answer; None: as many as the model has."""
    chat_template_kwargs: TemplateVariables = Field(default_factory=dict)
    """Values for variables of the chat template, as in `hf`."""

    def models_in_process(self) -> list[str]:
        return [self.model]

    def identity(self) -> dict[str, Any]:
        values = self.chat_template_kwargs
        own = ({"chat_template_kwargs": values} if values else {}) | ({"window": self.window} if self.window else {})
        model = model_identity(self.model, self.revision) | sampling_identity(self.model, self.revision)
        # Prompts were rendered by vLLM once.
        return {"name": self.name, "dtype": self.dtype, "reads": "token ids", **model, **own}

    def check(self) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise ModelError(
                "generator 'vllm' needs the package vllm on a machine with a GPU: pip install vllm; or serve the model "
                "elsewhere and use {name: openai, base_url: ...}"
            )
        check_model(self.model, self.revision, use=None)  # vLLM compares weights itself
        if self.chat_template_kwargs:
            tokenizer_with(self.model, self.revision, self.chat_template_kwargs)

    def check_prompts(self, prompts: Sequence[Messages], fold: bool) -> None:
        check_prompts(self.model, self.revision, prompts, fold, self.chat_template_kwargs)

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        self.check()
        from vllm import EngineArgs, LLMEngine

        from harness.models.decode.elsewhere import Elsewhere
        from harness.models.decode.rows import EMPTY

        tokenizer = tokenizer_with(self.model, self.revision, self.chat_template_kwargs)
        model = Elsewhere(self.model, self.revision, tokenizer, self.window)
        limit = {"max_model_len": self.window} if self.window else {}
        engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=local_path(self.model),
                revision=self.revision,
                dtype=self.dtype,
                gpu_memory_utilization=self.memory,
                tensor_parallel_size=self.parallel,
                generation_config="vllm",
                trust_remote_code=False,
                **limit,
            )
        )
        waiting = _samples(model, tokenizer, requests)
        running: dict[str, Sample] = {}
        while True:
            while len(running) < QUEUED and (sample := next(waiting, None)) is not None:
                if sample.limit <= 0:
                    arrived([Sampled(sample.request, sample.sample, EMPTY)])
                    continue
                name = f"{sample.request}-{sample.sample}"
                running[name] = sample
                params = _sampling_params(sample, model, seed)
                engine.add_request(name, {"prompt_token_ids": sample.prompt}, params)
            if not running:
                return
            finished = [(running.pop(out.request_id), out) for out in engine.step() if out.finished]
            if finished:
                written = ((sample, list(out.outputs[0].token_ids)) for sample, out in finished)
                arrived([Sampled(s.request, s.sample, model.completion(s, ids)) for s, ids in written])


def _samples(
    model: "Elsewhere", tokenizer: "PreTrainedTokenizerBase", requests: Sequence[SampleRequest]
) -> "Iterator[Sample]":
    from harness.models.batching import Job

    for i, request in enumerate(requests):
        text = request.prompt
        ids = list(tokenizer.encode(text)) if isinstance(text, str) else chat.encode_prompt(tokenizer, text)
        one_budget = {"max_new_tokens": request.sampling.most_tokens, "max_thinking_tokens": None}
        yield from model.samples(i, Job(ids, request.sampling.model_copy(update=one_budget), request.samples))


def _sampling_params(sample: "Sample", model: "Elsewhere", seed: int) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampling = sample.sampling
    digest = hashlib.sha256(repr((seed, sample.prompt, sample.sample)).encode()).digest()
    return SamplingParams(
        n=1,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sample.limit,
        stop=list(sampling.stop) or None,
        stop_token_ids=model.ends,
        detokenize=bool(sampling.stop),
        output_kind=RequestOutputKind.FINAL_ONLY,
        seed=int.from_bytes(digest[:4]) >> 1,
    )
