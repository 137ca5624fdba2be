"""Trains a policy on ranked examples with any loss, on transformers' Trainer."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainingArguments

from harness import models
from harness.errors import DataError, ModelError
from harness.protocols import Loss, RankedLogps
from harness.recipe import Policy, Training
from harness.training.batch import Batch, Group, collate, rows, tokenize
from harness.training.budget import Budget, Epoch, steps_for
from harness.training.head import response_logps
from harness.training.layout import lengths_of, shared_prefix_obstacle
from harness.training.metrics import step_metrics
from harness.training.policy import (
    autocast_dtype,
    load_policy,
    save_policy,
    trainable_parameters,
    uncast_adapter_inputs,
)
from harness.types import Advance, RankedExample

_log = logging.getLogger(__name__)


def train_policy(
    policy: Policy,
    examples: Sequence[RankedExample],
    reference: Mapping[str, Sequence[float]],
    loss: Loss,
    training: Training,
    *,
    folder: Path,
    seed: int,
    micro_batch_size: int,
    advance: Advance,
    budget: Budget | None = None,
) -> dict[str, Any]:
    """Train, write `folder/checkpoint` and `folder/steps.jsonl` (one line an optimizer step), and report.

    reference: example id -> one summed log-probability a response, in the example's order, computed by `score_rows`
    with the same maximum lengths. micro_batch_size: prompts in one forward (or the largest divisor of the batch size
    below it); it changes nothing but memory and speed. advance: told the number of prompts just done. budget: in place
    of `training.epochs`, what to come nearest to. The report's `prompts_seen` and `forward_tokens` (real input tokens)
    are what went through the policy in training.

    Examples that the loss finds no preference in (all scores tied) are left out and counted. Raises DataError for
    examples that can't be used, ModelError for a policy that can't be, or a loss that stops being finite.
    """
    started = time.monotonic()
    tokenizer = models.load_tokenizer(policy.model, policy.revision)
    lengths = {"max_prompt_length": training.max_prompt_length, "max_length": training.max_length}
    groups, counts = tokenize(examples, reference, tokenizer, **lengths)
    kept = [group for group in groups if _has_preference(group, loss)]
    if not kept:
        raise DataError(f"none of {len(groups)} examples holds a preference: every one has all its scores tied")
    model = load_policy(policy, training.lora, seed)
    obstacle = shared_prefix_obstacle(model, [lengths_of(group) for group in kept])
    if obstacle:
        _log.info("%s: one row a response: %s", policy.model, obstacle)
    max_steps = None
    if budget:
        epoch_tokens = sum(len(row.input_ids) for group in kept for row in rows(group, shared=obstacle is None))
        max_steps = steps_for(budget, Epoch(len(kept), epoch_tokens, training.batch_size))
    micro = max(m for m in range(1, min(micro_batch_size, training.batch_size) + 1) if training.batch_size % m == 0)
    trainer = RankedTrainer(
        model,
        _arguments(training, folder, seed, micro, max_steps),
        kept,
        partial(collate, pad_id=int(tokenizer.pad_token_id), shared=obstacle is None),
        loss,
        autocast=autocast_dtype(policy, training.lora),
        log=folder / "steps.jsonl",
        advance=advance,
    )
    with uncast_adapter_inputs(model, trainer.autocast):
        trainer.train()
    save_policy(model, tokenizer, folder / "checkpoint")
    quarter = max(1, len(trainer.losses) // 4)
    return {
        "steps": len(trainer.losses),
        "first_loss": fmean(trainer.losses[:quarter]),
        "last_loss": fmean(trainer.losses[-quarter:]),
        "tokens": trainer.tokens,
        "prompts_seen": trainer.prompts_seen,
        "forward_tokens": trainer.forward_tokens,
        "seconds": time.monotonic() - started,
        "examples": len(kept),
        "tied_examples": len(groups) - len(kept),
        **counts,
        "trained_parameters": trainable_parameters(model),
        "micro_batch_size": micro,
        "rows": f"one a response: {obstacle}" if obstacle else "one a prompt, shared prefix",
    }


def _has_preference(group: Group, loss: Loss) -> bool:
    """Whether the loss counts this group: that depends on the scores alone."""
    zeros = torch.zeros(1, len(group.scores))
    scores = torch.tensor([group.scores], dtype=torch.float32)
    mask = torch.ones_like(zeros, dtype=torch.bool)
    return bool(loss(RankedLogps(zeros, zeros, scores, mask.long(), mask))[1].item())


def _arguments(training: Training, folder: Path, seed: int, micro: int, max_steps: int | None) -> TrainingArguments:
    on_cpu = models.device().type == "cpu"
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=training.batch_size // micro,
        num_train_epochs=training.epochs,
        max_steps=max_steps or -1,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.lr_scheduler,
        warmup_steps=training.warmup_ratio,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        gradient_checkpointing=training.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        seed=seed,
        data_seed=seed,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        use_cache=True,  # Trainer writes this into the saved configuration; no forward here uses one
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # as Trainer itself does where nn.DataParallel must not be used
    return arguments


class RankedTrainer(Trainer):  # type: ignore[misc]
    """transformers' Trainer over groups of ranked responses. The loss is the mean over the prompts of a whole
    optimizer step, however many forwards it takes."""

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: nn.Module,
        arguments: TrainingArguments,
        groups: Sequence[Group],
        collator: Callable[[Sequence[Group]], Batch],
        loss: Loss,
        *,
        autocast: torch.dtype | None,
        log: Path,
        advance: Advance,
    ) -> None:
        super().__init__(model=model, args=arguments, data_collator=collator, train_dataset=groups)
        self.remove_callback(PrinterCallback)
        self.loss = loss
        self.autocast = autocast
        self.log_file = log
        self.advance = advance
        self.losses: list[float] = []
        self.tokens = self.prompts_seen = self.forward_tokens = 0
        self._done: list[RankedLogps] = []
        log.write_text("")

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], int]:
        """The next optimizer step's micro-batches, and how many prompts they hold."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return batches, sum(len(batch["ids"]) for batch in batches)

    def compute_loss_context_manager(self) -> AbstractContextManager[Any]:
        """Autocasting: Trainer's own wraps `model.forward`, which `response_logps` goes around."""
        return torch.autocast(self.args.device.type, self.autocast) if self.autocast else nullcontext()

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: int | None = None
    ) -> Tensor:
        """The micro-batch's part of the step's mean loss."""
        flat, lengths = response_logps(model, inputs)
        mask = inputs["mask"]
        batch = RankedLogps(
            logps=torch.zeros_like(inputs["ref_logps"]).masked_scatter(mask, flat),
            ref_logps=inputs["ref_logps"],
            scores=inputs["scores"],
            lengths=torch.zeros_like(mask, dtype=lengths.dtype).masked_scatter(mask, lengths),
            mask=mask,
        )
        losses, _ = self.loss(batch)
        self._refuse_non_finite(inputs["ids"], flat, losses)
        self._done.append(RankedLogps(*(tensor.detach().cpu() for tensor in batch if tensor is not None)))
        self.prompts_seen += len(mask)
        self.forward_tokens += int(inputs["row_tokens"].sum())
        self.advance(len(mask))
        return losses.sum() / (num_items_in_batch or len(mask))

    def _refuse_non_finite(self, ids: Sequence[str], logps: Tensor, losses: Tensor) -> None:
        if logps.isfinite().all() and losses.isfinite().all():
            return
        what = "the loss" if logps.isfinite().all() else "a log-probability"
        raise ModelError(
            f"training step {self.state.global_step + 1}: {what} is not finite on examples {', '.join(ids)}; "
            "lower learning_rate or max_grad_norm, or use a wider dtype"
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write a step's line; Trainer's closing summary has no grad_norm and goes to its own log alone."""
        if "grad_norm" in logs:
            self._write_step(logs)
        super().log(logs, start_time)

    def _write_step(self, logs: Mapping[str, float]) -> None:
        step = self.state.global_step
        if not math.isfinite(logs["grad_norm"]):
            raise ModelError(
                f"training step {step}: the gradient is not finite; lower learning_rate or use a wider dtype"
            )
        metrics = step_metrics(self._done)
        self._done.clear()
        self.losses.append(logs["loss"])
        self.tokens += metrics["tokens"]
        line = {"step": step, **{k: logs[k] for k in ("loss", "learning_rate", "grad_norm")}, **metrics}
        with self.log_file.open("a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
