"""A reward model trained on the seed's own pairs with TRL."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from harness.components import ModelReference
from harness.errors import DataError, ModelError
from harness.models.classifier import classifier_ids, classifier_scores, separate_padding
from harness.models.conversation import scored_model
from harness.models.facts import facts
from harness.models.load import check as check_model
from harness.models.load import device, load_sequence_classifier, load_tokenizer, refuse_adapter, with_adapter
from harness.models.lora import round_once
from harness.models.processor import AutoDtype, bfloat16_here
from harness.models.schedule import WarmUp
from harness.models.templates.checking import check_prompts
from harness.protocols import Ready, RewardModel
from harness.trackers.curves import curves
from harness.types import Advance, Messages, PreferencePair

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig
    from transformers import PreTrainedTokenizerBase
    from trl import RewardConfig

MODEL_FOLDER = "reward-model"
VERSION = 2
"""Raised where the code changes what is trained or how it scores; part of the identity."""


class Trained(RewardModel):
    """Trains a scalar head with LoRA adapters on `base` (`lora: false`: with the whole model) using TRL's
    `RewardTrainer`: the Bradley-Terry loss -log sigmoid(score(chosen) - score(rejected)) over the seed's training pairs
    (1706.03741, 2203.02155).

    What is trained is in float32, and scores are computed in float32 with a base in float32: half precision would round
    away much of what was learnt. TRL averages the means of forward passes, so it may weigh the pairs of a short last
    step differently. Raises ModelError if the base can't be loaded.
    """

    unkeyed: ClassVar[frozenset[str]] = frozenset({"score_batch_size"})
    needs: ClassVar[tuple[str, ...]] = ("torch", "transformers", "trl", "peft")

    base: ModelReference
    """The model that gets a scalar head: a built-in name, a hub id or a local folder."""
    revision: str | None = None
    """Of a hub id: a commit, tag or branch."""
    dtype: AutoDtype = Field("auto", validate_default=True)
    """Of the matrix products in training, and of the base of adapters; what is trained is in float32."""
    epochs: float = Field(2.0, gt=0)
    """Passes over the seed's training pairs."""
    learning_rate: float = Field(2e-4, gt=0)
    """The largest, after warm-up."""
    batch_size: int = Field(8, ge=1)
    """Pairs per optimizer step."""
    lora: bool = True
    """Whether adapters are trained, or the whole model."""
    lora_r: int = Field(16, ge=1)
    """The rank of the adapters."""
    max_length: int = Field(1024, ge=16)
    """Tokens of prompt and response together."""
    micro_batch_size: int = Field(2, ge=1)
    """Pairs per forward pass: a divisor of `batch_size`."""
    score_batch_size: int = Field(16, ge=1)
    """Responses per forward pass when scoring (speed and memory only)."""

    @model_validator(mode="after")
    def _whole_steps(self) -> "Trained":
        if self.batch_size % self.micro_batch_size:
            raise ValueError(f"batch_size must be a multiple of micro_batch_size, which is {self.micro_batch_size}")
        return self

    @property
    def is_trained(self) -> bool:
        return True

    @property
    def training_passes(self) -> float:
        return self.epochs

    @property
    def batch_rows(self) -> int | None:
        return self.score_batch_size

    def models_in_process(self) -> list[str]:
        return [self.base]

    def identity(self) -> dict[str, Any]:
        unused = {"lora"} if self.lora else {"lora_r"}
        fields = self.model_dump(mode="json", exclude={"base", "revision", *self.unkeyed, *unused})
        half = not self.lora and self.dtype != "float32" and bfloat16_here().good  # as `_autocast`
        products = {"products": "bfloat16"} if half else {}
        return {**fields, **products, "version": VERSION, "base": scored_model(self.base, self.revision)}

    def check(self) -> None:
        refuse_adapter(self.base, self.revision, "base")
        check_model(self.base, self.revision, "new classifier")
        if facts(self.base, self.revision).reads == "pairs":
            raise ModelError(f"'{self.base}' is an encoder; expected a language model as the base of a reward model")

    def check_prompts(self, prompts: Sequence[Messages], fold: bool) -> None:
        check_prompts(self.base, self.revision, prompts, fold)

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        from datasets import Dataset
        from transformers import PrinterCallback, TrainerCallback, set_seed

        class Bar(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                advance(1)

        tokenizer = self._tokenizer()
        set_seed(seed)  # the new head is random
        dtype = self.dtype if self.lora else "float32"
        model = load_sequence_classifier(self.base, self.revision, dtype, num_labels=1)
        model.config.pad_token_id = tokenizer.pad_token_id
        encoded = [
            [classifier_ids(tokenizer, p.messages, text, self.max_length) for text in (p.chosen, p.rejected)]
            for p in pairs
        ]
        # Answers that differ only behind max_length are no preference.
        rows = [{"chosen_ids": c, "rejected_ids": r} for (c, _), (r, _) in encoded if c != r]
        if not rows:
            raise DataError(f"all {len(pairs)} pairs are identical once they are cut: raise reward.max_length")
        trainer = _trainer_class(self._autocast())(
            model=model,
            args=self._config(folder, seed),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=self._adapter(),
            callbacks=[Bar()],
        )
        trainer.remove_callback(PrinterCallback)
        for parameter in round_once(trainer.model).parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()  # the head is in the base's dtype
        with curves() as callbacks:
            for callback in callbacks:
                trainer.add_callback(callback)
            trainer.train()
        trainer.model.save_pretrained(folder / MODEL_FOLDER)
        (folder / MODEL_FOLDER / "README.md").unlink(missing_ok=True)  # PEFT's: blank but for the base's path
        steps = [row for row in trainer.state.log_history if "loss" in row]
        (folder / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))
        losses = [row["loss"] for row in steps]
        return {
            "steps": trainer.state.global_step,
            "first_loss": losses[0],
            "last_loss": losses[-1],
            "truncated": sum(truncated for pair in encoded for _, truncated in pair),
            "identical_pairs": len(pairs) - len(rows),
        }

    def _autocast(self) -> "torch.dtype | None":
        """The dtype of matrix products in training; None: that of the weights."""
        import torch

        if self.dtype == "float32":
            return None
        if not self.lora:
            return torch.bfloat16 if bfloat16_here().good else None
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def _adapter(self) -> "LoraConfig | None":
        from peft import LoraConfig

        if not self.lora:
            return None
        return LoraConfig(
            task_type="SEQ_CLS",
            r=self.lora_r,
            lora_alpha=2 * self.lora_r,
            target_modules="all-linear",
            modules_to_save=["score"],
        )

    def _config(self, folder: Path, seed: int) -> "RewardConfig":
        from trl import RewardConfig

        config = RewardConfig(
            output_dir=str(folder / "trainer"),
            num_train_epochs=self.epochs,
            learning_rate=self.learning_rate,
            per_device_train_batch_size=self.micro_batch_size,
            gradient_accumulation_steps=self.batch_size // self.micro_batch_size,
            max_length=None,  # rows are truncated already
            warmup_steps=0.1,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            logging_steps=1,
            report_to="none",  # `curves` adds the recipe's trackers
            disable_tqdm=True,
            seed=seed,
        )
        if config.n_gpu > 1:
            config._n_gpu = 1  # else a step would have that many times the pairs
        return config

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        tokenizer = self._tokenizer()
        if self.lora:
            base = load_sequence_classifier(self.base, self.revision, "float32", num_labels=1)
            model = with_adapter(base, ready.folder / MODEL_FOLDER)
        else:
            model = load_sequence_classifier(str(ready.folder / MODEL_FOLDER), None, "float32")
        return classifier_scores(
            model,
            tokenizer,
            rows,
            max_length=self.max_length,
            batch_size=self.score_batch_size,
            advance=ready.advance,
            keep=ready.keep,
        )

    def _tokenizer(self) -> "PreTrainedTokenizerBase":
        tokenizer = load_tokenizer(self.base, self.revision)
        separate_padding(tokenizer)
        return tokenizer


def _trainer_class(autocast: "torch.dtype | None") -> Any:
    """TRL's RewardTrainer with the same warm-up as other trainings, and its matrix products in `autocast`."""
    import torch
    from trl import RewardTrainer

    class Trainer(WarmUp, RewardTrainer):  # type: ignore[misc]
        def compute_loss_context_manager(self) -> torch.autocast:
            return torch.autocast(device().type, autocast, enabled=autocast is not None)

    return Trainer
