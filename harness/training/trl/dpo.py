"""Trains a policy with TRL's DPOTrainer and any of TRL's losses, on pairs drawn from ranked examples.

TRL gets the same token ids, hyperparameters, adapters, seed and order of rows as the harness's own trainer. TRL
computes the reference's log-probabilities, once, before the first step.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer

from harness.data.pairings import PairSelection, ranked_pairs
from harness.errors import DataError, ModelError
from harness.logprobs.layout import check_window
from harness.models.load import Dtype
from harness.models.lora import round_once
from harness.recipe.policy import Policy, policy_tokenizer
from harness.recipe.training import Lora, Training
from harness.recipe.trl_loss import TrlLoss
from harness.training.budget import Budget, Epoch, steps_for
from harness.training.deploy import save_result
from harness.training.policy import autocast_dtype, load_untrained, lora_config, products, trainable_parameters
from harness.training.ranked.batch import Group, tokenize
from harness.training.signs import failure_signs
from harness.training.steps import read_steps
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

_log = logging.getLogger(__name__)


def train_with_trl(
    policy: Policy,
    examples: Sequence[RankedExample],
    loss: TrlLoss,
    training: Training,
    *,
    folder: Path,
    seed: int,
    micro_batch_size: int,
    advance: Advance,
    budget: Budget | None = None,
    report_to: Sequence[str] = (),
    dtype: Dtype | None = None,
) -> dict[str, Any]:
    """Train, write `folder/checkpoint`, `folder/trained` where that was rounded, and `folder/steps.jsonl` (one line per
    optimizer step), and report.

    `training.batch_size` and `micro_batch_size` count the pairs of a step and of one forward. The latter is rounded
    down to a divisor of the batch size; it affects only memory and speed, unless the loss `sees_whole_batch`. advance:
    called with the number of pairs just done. budget: replaces `training.epochs` by the nearest number of steps; a pair
    counts as a prompt. report_to: transformers' names of the curve loggers. dtype: of whole models; None: the policy's.

    A non-finite gradient stops the run before the weights change: they are kept, and the report's `stopped` says so.
    Raises DataError for examples that can't be used or hold no preference, ModelError for a policy that can't be
    trained this way, or if the very first step is not finite.
    """
    started = time.monotonic()
    tokenizer = policy_tokenizer(policy)
    placeholder = {e.id: [0.0] * len(e.responses) for e in examples}  # TRL computes the reference itself
    lengths = {"max_prompt_length": training.max_prompt_length, "max_length": training.max_length}
    groups, counts = tokenize(examples, placeholder, tokenizer, **lengths)
    rows = draw_pairs(groups, loss.pairs)
    if not rows:
        raise DataError(f"none of {len(groups)} examples holds a preference: in each, all scores are tied")
    untied = sum(len(set(group.scores)) > 1 for group in groups)
    micro = micro_batch_of(training, micro_batch_size)
    arguments = _arguments(loss, training, folder, seed, micro, report_to)
    if budget:
        arguments.max_steps = steps_for(budget, Epoch(len(rows), sum(map(input_tokens, rows)), training.batch_size))
    trainer = _trainer(policy, training.lora, rows, arguments, tokenizer, advance)
    lines = StepLines(folder / "steps.jsonl", partial(_step, trainer, loss.beta))
    trainer.add_callback(lines)
    stopped = train_while_finite(trainer)
    if stopped and not lines.losses:
        raise ModelError(f"{stopped}; {REMEDY}")
    warnings = failure_signs(read_steps(folder / "steps.jsonl"))
    for sign in [*warnings, *([stopped] if stopped else [])]:
        _log.warning("%s", sign)
    save_result(trainer.model, tokenizer, folder, policy, training, dtype=dtype or policy.dtype, seed=seed)
    return {
        **lines.report(),
        "tokens": trainer.tokens,
        "seconds": time.monotonic() - started,
        "prompts_seen": trainer.pairs_seen,
        "examples": untied,
        "pairs": len(rows),
        "tied_examples": len(groups) - untied,
        **counts,
        "trained_parameters": trainable_parameters(trainer.model),
        "micro_batch_size": micro,
        "products": products(trainer.autocast),
        "rows": "two a pair",
        "warnings": warnings,
        **({"stopped": f"{stopped}; the weights of step {len(lines.losses)} were kept"} if stopped else {}),
    }


def draw_pairs(groups: Sequence[Group], pairing: PairSelection) -> list[dict[str, list[int]]]:
    """DPOTrainer's rows (prompt_ids, chosen_ids, rejected_ids), by group and in the order of responses."""
    return [
        {"prompt_ids": g.prompt, "chosen_ids": g.responses[better], "rejected_ids": g.responses[worse]}
        for g in groups
        for better, worse in ranked_pairs(g.scores, pairing)
    ]


def input_tokens(row: Mapping[str, list[int]]) -> int:
    """Tokens that a pair puts through the policy; the prompt counts twice, once per response."""
    return 2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])


def _arguments(
    loss: TrlLoss, training: Training, folder: Path, seed: int, micro: int, report_to: Sequence[str]
) -> DPOConfig:
    return DPOConfig(
        **run_arguments(training, folder=folder, seed=seed, micro=micro, report_to=report_to),
        loss_type=list(loss.name),
        loss_weights=list(loss.loss_weights) if loss.loss_weights else None,
        beta=loss.beta,
        label_smoothing=loss.label_smoothing,
        precompute_ref_log_probs=True,
        disable_dropout=False,  # it is off in the policy already; this would also disable the adapters' dropout
    )


def _trainer(
    policy: Policy,
    lora: Lora | None,
    rows: Sequence[Mapping[str, list[int]]],
    arguments: DPOConfig,
    tokenizer: Any,
    advance: Advance,
) -> "PairTrainer":
    model = load_untrained(policy, lora)
    check_window(
        model, max(len(r["prompt_ids"]) + len(r[side]) for r in rows for side in ("chosen_ids", "rejected_ids"))
    )
    try:
        trainer = PairTrainer(
            autocast_dtype(policy, lora),
            advance,
            model=model,
            args=one_device(arguments),
            train_dataset=Dataset.from_list([dict(row) for row in rows]),
            processing_class=tokenizer,
            peft_config=lora_config(policy, lora, model) if lora else None,
        )
    except ValueError as error:  # TRL can't train this model, these adapters or this loss
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"policy {policy.model}: TRL can't train it this way: {first}") from error
    float32_adapters(round_once(trainer.model))
    trainer.remove_callback(PrinterCallback)
    return trainer


class PairTrainer(TrainerMixin, DPOTrainer):  # type: ignore[misc]
    """DPOTrainer on rows that already hold token ids. The loss is the mean over all pairs of an optimizer step, however
    many forwards it takes (TRL's own weighs every forward equally, including a short last one)."""

    loss_is_scaled_for_ga = True
    pairs_seen = 0

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        """The rows unchanged: TRL would tokenize text, and differently from the harness."""
        return dataset

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], int]:
        """The micro-batches of the next optimizer step, and their number of pairs."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.count_tokens(sum(int(batch["completion_mask"].sum()) for batch in batches))
        return batches, sum(len(batch["ref_chosen_logps"]) for batch in batches)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> torch.Tensor:
        """The micro-batch's share of the step's mean loss."""
        pairs = len(inputs["ref_chosen_logps"])
        self.pairs_seen += pairs
        loss: torch.Tensor = super().compute_loss(model, inputs)
        self.advance(pairs)
        return loss * (pairs / (num_items_in_batch or pairs))


def _step(trainer: PairTrainer, beta: float, logs: Mapping[str, float]) -> dict[str, Any]:
    """The fields of a step's log that the harness's own trainer logs too: the mean difference of log-ratios in nats,
    without beta, and the response tokens."""
    return {"margin_mean": logs["rewards/margins"] / beta, "tokens": trainer.step_tokens}
