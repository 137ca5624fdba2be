"""A ready-made reward model: any sequence classifier."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from harness.components import ModelReference
from harness.models.classifier import classifier_scores, separate_padding
from harness.models.load import Dtype, check_classifier, load_sequence_classifier, load_tokenizer
from harness.models.load import identity as model_identity
from harness.protocols import Ready, RewardModel
from harness.types import Advance, Messages, PreferencePair


class SequenceClassifier(RewardModel):
    """Scores with `AutoModelForSequenceClassification` of `model` (a hub id or a local folder), using its chat
    template.

    A model with several outputs needs `outputs`, weights by label or number; the score is the weighted sum:
    `{helpfulness: 0.8, verbosity: -0.2}`, or `{"1": 1, "0": -1}` for the log-odds of two classes. `max_length` in
    tokens; `batch_size` in responses (speed and memory only). Models with their own code are not loaded: serve them and
    use `api`. Raises ModelError if the model can't be loaded or doesn't have these outputs.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    model: ModelReference
    revision: str | None = None
    dtype: Dtype = "bfloat16"
    max_length: int = Field(2048, ge=16)
    batch_size: int = Field(16, ge=1)
    outputs: dict[str, float] = Field(default_factory=dict)

    def models_in_process(self) -> list[str]:
        return [self.model]

    def identity(self) -> dict[str, Any]:
        model = model_identity(self.model, self.revision)
        outputs = {"outputs": self.outputs} if self.outputs else {}
        return {"name": self.name, "dtype": self.dtype, "max_length": self.max_length, **outputs, **model}

    def check(self) -> None:
        check_classifier(self.model, self.revision)

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        """Nothing to train."""
        return {}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        tokenizer = load_tokenizer(self.model, self.revision)
        model = load_sequence_classifier(self.model, self.revision, self.dtype)
        if model.config.pad_token_id is not None:
            tokenizer.pad_token_id = model.config.pad_token_id  # as the model's authors do when they read its scores
        else:
            separate_padding(tokenizer)
        return classifier_scores(
            model,
            tokenizer,
            rows,
            max_length=self.max_length,
            batch_size=self.batch_size,
            advance=ready.advance,
            keep=ready.keep,
            outputs=self.outputs,
        )
