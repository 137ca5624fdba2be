"""A Hugging Face causal language model, sampled in process."""

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from harness import chat, models
from harness.components import Component, ModelReference
from harness.types import Advance, Completion, Messages, Sampling


class Hf(Component):
    """Samples from `model` (a built-in name, a hub id or a local folder) with `transformers`, in process.

    `batch_size` counts sequences in one forward: it changes speed and memory, not the samples (see
    `harness.decoding`). Raises ModelError when the model can't be loaded.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    model: ModelReference
    revision: str | None = None
    dtype: models.Dtype = "bfloat16"
    batch_size: int = Field(64, ge=1)

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, **models.identity(self.model, self.revision)}

    def check(self) -> None:
        models.check(self.model, self.revision)

    def generate(
        self,
        prompts: Sequence[Messages],
        sampling: Sequence[Sampling],
        *,
        n: int,
        seed: int,
        advance: Advance,
    ) -> list[list[Completion]]:
        from harness.decoding import decode

        tokenizer = models.load_tokenizer(self.model, self.revision)
        model = models.load_causal_lm(self.model, self.revision, self.dtype)
        ids = [chat.encode_prompt(tokenizer, messages) for messages in prompts]
        return decode(model, tokenizer, ids, sampling, n=n, seed=seed, batch_size=self.batch_size, advance=advance)
