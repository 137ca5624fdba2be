"""Supervised fine-tuning with TRL's SFTTrainer; a method's preference training then starts from the result."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from harness.errors import DataError, ModelError
from harness.logprobs.layout import check_window
from harness.logprobs.rows import IGNORED
from harness.models import chat
from harness.recipe.policy import Policy, policy_tokenizer
from harness.recipe.training import Lora, Training
from harness.training.deploy import save_fine_tuned
from harness.training.policy import autocast_dtype, load_policy, products, trainable_parameters
from harness.training.trl.run import (
    REMEDY,
    StepLines,
    TrainerMixin,
    float32_adapters,
    micro_batch_of,
    one_device,
    run_arguments,
    train_while_finite,
)
from harness.types import Advance, RankedExample


def fine_tune(
    policy: Policy,
    examples: Sequence[RankedExample],
    training: Training,
    *,
    folder: Path,
    seed: int,
    micro_batch_size: int,
    advance: Advance,
) -> dict[str, Any]:
    """Fine-tune on the best response of each example, write `folder/checkpoint` (a whole model in the policy's dtype,
    adapters merged), `folder/trained` (the same before it was rounded, if it was) and `folder/steps.jsonl`, and report.
    The loss is the mean over the response tokens of an optimizer step.

    `training.batch_size` and `micro_batch_size` count the examples of a step and of one forward. The latter is rounded
    down to a divisor of the batch size; it affects only memory and speed. advance: called with the number of examples
    just done. Raises DataError when no example has a scored response, ModelError for a policy that can't be trained, or
    a loss that becomes non-finite.
    """
    started = time.monotonic()
    tokenizer = policy_tokenizer(policy)
    rows, truncated = best_responses(examples, tokenizer, training)
    if not rows:
        raise DataError(f"none of the {len(examples)} examples has a scored response; expected at least one")
    micro = micro_batch_of(training, micro_batch_size)
    longest = max(len(row["input_ids"]) for row in rows)
    arguments = SFTConfig(**run_arguments(training, folder=folder, seed=seed, micro=micro))
    trainer = _trainer(policy, training.lora, rows, arguments, tokenizer, advance)
    check_window(trainer.model, longest)
    trained = trainable_parameters(trainer.model)
    lines = StepLines(folder / "steps.jsonl", lambda logs: {"tokens": trainer.step_tokens})
    trainer.add_callback(lines)
    trainer.remove_callback(PrinterCallback)
    if stopped := train_while_finite(trainer):
        raise ModelError(f"{stopped}; {REMEDY}")
    save_fine_tuned(trainer.model, tokenizer, folder, policy, training, seed=seed)
    return {
        **lines.report(),
        "tokens": trainer.tokens,
        "seconds": time.monotonic() - started,
        "examples": len(rows),
        "unscored_examples": len(examples) - len(rows),
        "truncated_responses": truncated,
        "trained_parameters": trained,
        "micro_batch_size": micro,
        "products": products(trainer.autocast),
    }


def best_responses(
    examples: Sequence[RankedExample], tokenizer: Any, training: Training
) -> tuple[list[dict[str, list[int]]], int]:
    """SFTTrainer's rows (input_ids; labels, which are IGNORED on the prompt), one for the best-scored response of each
    example (the first of tied ones), and how many of them were truncated. An example without a score has no row."""
    rows, truncated = [], 0
    lengths = {"max_prompt_length": training.max_prompt_length, "max_length": training.max_length}
    for example in examples:
        scored = [(r.score, r.text) for r in example.responses if r.score is not None]
        if not scored:
            continue
        _, best = max(scored, key=lambda response: response[0])
        encoded = chat.encode(tokenizer, example.messages, best, **lengths)
        truncated += encoded.truncated
        labels = [IGNORED] * len(encoded.prompt) + encoded.response
        rows.append({"input_ids": encoded.prompt + encoded.response, "labels": labels})
    return rows, truncated


def _trainer(
    policy: Policy,
    lora: Lora | None,
    rows: Sequence[Mapping[str, list[int]]],
    arguments: SFTConfig,
    tokenizer: Any,
    advance: Advance,
) -> "ResponseTrainer":
    model = load_policy(policy, lora, arguments.seed)
    try:
        trainer = ResponseTrainer(
            autocast_dtype(policy, lora),
            advance,
            model=model,
            args=one_device(arguments),
            train_dataset=Dataset.from_list([dict(row) for row in rows]),
            processing_class=tokenizer,
        )
    except ValueError as error:  # TRL can't train this model or these adapters
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"policy {policy.model}: TRL can't fine-tune it: {first}") from error
    float32_adapters(trainer.model)
    return trainer


class ResponseTrainer(TrainerMixin, SFTTrainer):  # type: ignore[misc]
    """SFTTrainer on rows that already hold token ids and labels."""

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Any]:
        """The micro-batches of the next optimizer step, and their number of response tokens."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.count_tokens(sum(int((batch["labels"] != IGNORED).sum()) for batch in batches))
        return batches, items

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The micro-batch's share of the step's mean loss, by SFTTrainer."""
        loss: torch.Tensor = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        self.advance(len(inputs["labels"]))
        return loss
