"""A ready-made reward model: any sequence classifier."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from harness.components import ModelReference
from harness.errors import ModelError
from harness.models.classifier import (
    classifier_scores,
    output_weights,
    reads_pairs,
    separate_padding,
    single_question,
)
from harness.models.conversation import scored_model
from harness.models.facts import facts
from harness.models.load import check_classifier, load_sequence_classifier, load_tokenizer, saved_as
from harness.models.processor import AutoDtype
from harness.models.templates.checking import check_prompts, refuse_or_tell, tell
from harness.protocols import Ready, RewardModel
from harness.types import Advance, Messages, PreferencePair

_ENCODER = re.compile("bert|electra|mpnet|xlm|longformer|bigbird|funnel|nystromformer|camembert", re.IGNORECASE)
"""In the names of classes of encoders."""


class SequenceClassifier(RewardModel):
    """Scores with `AutoModelForSequenceClassification` of `model` (a hub id or a local folder), using its chat
    template. An encoder without one (BERT, DeBERTa) reads question and answer as two texts, a system message in front
    of the question; conversations of several turns are an error there.

    A model with several outputs needs `outputs`, weights by label or number; the score is the weighted sum:
    `{helpfulness: 0.8, verbosity: -0.2}`, or `{"1": 1, "0": -1}` for the log-odds of two classes. Models with their own
    code are not loaded: serve them and use `api`. Raises ModelError if the model can't be loaded or doesn't have these
    outputs.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    needs: ClassVar[tuple[str, ...]] = ("torch", "transformers")

    model: ModelReference
    """A hub id or a local folder."""
    revision: str | None = None
    """Of a hub id: a commit, tag or branch."""
    dtype: AutoDtype = Field("auto", validate_default=True)
    """Of the weights in memory; `auto`: bfloat16 where this machine is fast at it, else float32."""
    max_length: int = Field(2048, ge=16)
    """Tokens of prompt and response together."""
    batch_size: int = Field(16, ge=1)
    """Responses per forward pass (speed and memory only)."""
    outputs: dict[str, float] = Field(default_factory=dict)
    """Of a model with several outputs, the weight of each, by its label or number."""

    @property
    def batch_rows(self) -> int | None:
        return self.batch_size

    def models_in_process(self) -> list[str]:
        return [self.model]

    def identity(self) -> dict[str, Any]:
        model = scored_model(self.model, self.revision)
        outputs = {"outputs": self.outputs} if self.outputs else {}
        # Encoders were read as if they had a chat template once.
        reads = {"reads": "pairs"} if any(map(_ENCODER.search, saved_as(self.model, self.revision))) else {}
        return {"name": self.name, "dtype": self.dtype, "max_length": self.max_length, **outputs, **reads, **model}

    def check(self) -> None:
        labels = check_classifier(self.model, self.revision)
        if labels is not None:
            output_weights(self.model, [labels[i] for i in sorted(labels)], self.outputs)
        if facts(self.model, self.revision).reads == "plain":
            if any(map(_ENCODER.search, saved_as(self.model, self.revision))):
                raise ModelError(
                    f"{self.model}: its tokenizer joins no two texts and has no chat template, so it isn't known how "
                    "this encoder reads a question and an answer; use the tokenizer that it was trained with"
                )
            tell(
                f"reward model {self.model} has no chat template: it reads '### User:' and '### Assistant:' before "
                "messages, which it may not have been trained on; save its template with its tokenizer"
            )

    def check_prompts(self, prompts: Sequence[Messages], fold: bool) -> None:
        if not prompts:
            return
        if not reads_pairs(load_tokenizer(self.model, self.revision)):
            check_prompts(self.model, self.revision, prompts, fold)
            return
        if any(m.role == "system" for messages in prompts for m in messages):
            refuse_or_tell(f"the encoder {self.model}", "has no place for", fold)
        single_question(self.model, prompts)

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        """Nothing to train."""
        return {}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        tokenizer = load_tokenizer(self.model, self.revision)
        model = load_sequence_classifier(self.model, self.revision, self.dtype)
        pad = model.config.get_text_config().pad_token_id
        if pad is not None and 0 <= pad < model.get_input_embeddings().num_embeddings:
            tokenizer.pad_token_id = pad  # as the model's authors do when they read its scores
        elif not reads_pairs(tokenizer):
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
