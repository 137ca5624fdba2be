"""A Hugging Face causal language model, sampled in process."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from harness import chat, models, sampling
from harness.components import Component, ModelReference
from harness.protocols import Arrived, SampleRequest
from harness.types import Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Hf(Component):
    """Samples from `model` (a built-in name, a hub id or a local folder) with `transformers`, in process.

    `batch_size` counts sequences in one forward (None: as many as the model and the device allow): it changes speed and
    memory, and the samples no more than rounding does (see `harness.decoding`). Raises ModelError when the model can't
    be loaded, or a single sequence doesn't fit in memory.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    model: ModelReference
    revision: str | None = None
    dtype: models.Dtype = "bfloat16"
    batch_size: int | None = Field(None, ge=1)

    def identity(self) -> dict[str, Any]:
        drawn = {"name": self.name, "dtype": self.dtype, "sampling": sampling.VERSION}
        return drawn | models.identity(self.model, self.revision)

    def check(self) -> None:
        models.check(self.model, self.revision)

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        from harness.decoding import Job, decode

        tokenizer = models.load_tokenizer(self.model, self.revision)
        model = models.load_causal_lm(self.model, self.revision, self.dtype)
        jobs = [Job(_ids(tokenizer, r.prompt), r.sampling, r.samples) for r in requests]
        decode(model, tokenizer, jobs, seed=seed, batch_size=self.batch_size, arrived=arrived)


def _ids(tokenizer: "PreTrainedTokenizerBase", prompt: Messages | str) -> list[int]:
    if isinstance(prompt, str):
        return list(tokenizer.encode(prompt))
    return chat.encode_prompt(tokenizer, prompt)
