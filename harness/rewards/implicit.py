"""The implicit reward of a policy trained on preferences (2305.18290): its log-ratio to its reference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from harness.components import ModelReference
from harness.models.conversation import scored_model
from harness.models.load import check as check_model
from harness.models.load import load_causal_lm, load_tokenizer
from harness.models.processor import AutoDtype
from harness.models.templates.checking import check_prompts
from harness.protocols import Ready, RewardModel
from harness.types import Advance, Messages, PreferencePair


class Implicit(RewardModel):
    """beta (log pi(y|x) - log pi_ref(y|x)) under a checkpoint (`policy`: a folder, with or without an adapter, or a hub
    id) and the model that its training started from (`reference`), in nats. `length_norm` divides by the number of
    response tokens. Texts longer than `max_prompt_length` and `max_length` are truncated as in training.

    `dtype` is float32 by default: in half precision a float32 checkpoint is rounded onto its base, and the log-ratio is
    a small difference of two large numbers.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    needs: ClassVar[tuple[str, ...]] = ("torch", "transformers")

    policy: ModelReference
    """The checkpoint: a folder, with or without an adapter, or a hub id."""
    reference: ModelReference
    """The model that the checkpoint's training started from."""
    dtype: AutoDtype = "float32"
    """Of the weights in memory; in half precision the small log-ratio would be rounded away."""
    beta: float = Field(0.1, gt=0)
    """The factor of the log-ratio."""
    length_norm: bool = False
    """Divide the log-ratio by the number of response tokens."""
    max_prompt_length: int = Field(1024, ge=1)
    """Tokens of the longest prompt; longer ones are truncated as in training."""
    max_length: int = Field(2048, ge=2)
    """Tokens of prompt and response together."""
    batch_size: int = Field(16, ge=1)
    """Responses per forward pass (speed and memory only)."""

    @property
    def batch_rows(self) -> int | None:
        return self.batch_size

    def models_in_process(self) -> list[str]:
        return [self.policy, self.reference]

    def identity(self) -> dict[str, Any]:
        fields = self.model_dump(mode="json", exclude={"policy", "reference", *self.unkeyed})
        return {**fields, "policy": scored_model(self.policy), "reference": scored_model(self.reference)}

    def check(self) -> None:
        check_model(self.policy)
        check_model(self.reference)

    def check_prompts(self, prompts: Sequence[Messages], fold: bool) -> None:
        check_prompts(self.reference, None, prompts, fold)

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        """Nothing to train."""
        return {}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        from harness.logprobs.score import score_rows

        tokenizer = load_tokenizer(self.reference)
        policy, reference = (
            score_rows(
                load_causal_lm(name, None, self.dtype),
                tokenizer,
                rows,
                max_prompt_length=self.max_prompt_length,
                max_length=self.max_length,
                batch_size=self.batch_size,
                advance=advance,
            )
            for name, advance in ((self.policy, lambda _: None), (self.reference, ready.advance))
        )
        return [
            self.beta * (trained.logp - initial.logp) / (trained.tokens if self.length_norm else 1)
            for trained, initial in zip(policy, reference, strict=True)
        ]
