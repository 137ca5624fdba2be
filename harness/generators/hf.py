"""A Hugging Face causal language model, sampled in process."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from harness.components import ModelReference
from harness.models import chat
from harness.models.conversation import tokenizer_with
from harness.models.decode import sampling
from harness.models.load import check as check_model
from harness.models.load import identity as model_identity
from harness.models.load import load_causal_lm, sampling_identity
from harness.models.processor import AutoDtype
from harness.models.templates.checking import check_prompts
from harness.models.templates.variables import TemplateVariables
from harness.protocols import Arrived, Generator, SampleRequest
from harness.types import Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Hf(Generator):
    """Samples from `model` (a built-in name, a hub id or a local folder) with `transformers`, in process.

    `batch_size` affects speed and memory, but samples only by rounding (see `harness.models.decoding`). Raises
    ModelError if the model can't be loaded, or a single sequence doesn't fit in memory.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    needs: ClassVar[tuple[str, ...]] = ("torch", "transformers")

    model: ModelReference
    """A built-in name, a hub id or a local folder."""
    revision: str | None = None
    """Of a hub id: a commit, tag or branch."""
    dtype: AutoDtype = Field("auto", validate_default=True)
    """Of the weights in memory; `auto`: bfloat16 where this machine is fast at it, else float32."""
    batch_size: int | None = Field(None, ge=1)
    """Sequences per forward pass; None: as many as the model and the device allow."""
    chat_template_kwargs: TemplateVariables = Field(default_factory=dict)
    """Values for variables of the chat template; of the policy's own model, by default the policy's."""

    def models_in_process(self) -> list[str]:
        return [self.model]

    def identity(self) -> dict[str, Any]:
        fields = {"name": self.name, "dtype": self.dtype, "sampling": sampling.VERSION}
        model = model_identity(self.model, self.revision)
        values = self.chat_template_kwargs
        variables = {"chat_template_kwargs": values} if values else {}
        return fields | model | sampling_identity(self.model, self.revision) | variables

    def check(self) -> None:
        check_model(self.model, self.revision)
        if self.chat_template_kwargs:
            tokenizer_with(self.model, self.revision, self.chat_template_kwargs)

    def check_prompts(self, prompts: Sequence[Messages], fold: bool) -> None:
        check_prompts(self.model, self.revision, prompts, fold, self.chat_template_kwargs)

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        from harness.models.batching import Job
        from harness.models.decoding import decode

        tokenizer = tokenizer_with(self.model, self.revision, self.chat_template_kwargs)
        model = load_causal_lm(self.model, self.revision, self.dtype)
        jobs = [Job(_ids(tokenizer, r.prompt), r.sampling, r.samples) for r in requests]
        decode(model, tokenizer, jobs, seed=seed, batch_size=self.batch_size, arrived=arrived)


def _ids(tokenizer: "PreTrainedTokenizerBase", prompt: Messages | str) -> list[int]:
    if isinstance(prompt, str):
        return list(tokenizer.encode(prompt))
    return chat.encode_prompt(tokenizer, prompt)
