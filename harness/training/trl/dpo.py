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
from harness.recipe.training import Lora, Point, Training
from harness.recipe.trl_loss import TrlLoss
from harness.training.budget import Budget, Epoch, steps_for
from harness.training.deploy import save_result
from harness.training.points import WritePoints, finish_points, points_report
from harness.training.policy import autocast_dtype, load_untrained, lora_config, products, trainable_parameters
from harness.training.ranked.batch import Group, tokenize
from harness.training.signs import failure_signs
from harness.training.steps import read_steps
from harness.training.trl.going_on import GoingOn
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
    dtype: Dtype | None = None,
    points: Sequence[Point] = (),
    going_on: GoingOn | None = None,
) -> dict[str, Any]:
    """Train, write `folder/checkpoint`, `folder/trained` where that was rounded, and `folder/steps.jsonl` (one line per
    optimizer step), and report.

    `training.batch_size` and `micro_batch_size` count the pairs of a step and of one forward. The latter is rounded
    down to a divisor of the batch size; it affects only memory and speed, unless the loss `sees_whole_batch`. advance:
    called with the number of pairs just done. budget: replaces `training.epochs` by the nearest number of steps; a pair
    counts as a prompt. dtype: of whole models; None: the policy's.
    points: also write these checkpoints, into `folder/at/NAME`. going_on: of a later round.

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
    arguments = _arguments(loss, training, folder, seed, micro)
    if budget:
        arguments.max_steps = steps_for(budget, Epoch(len(rows), sum(map(input_tokens, rows)), training.batch_size))
    trainer = _trainer(policy, training.lora, rows, arguments, tokenizer, advance, going_on)
    lines = StepLines(folder / "steps.jsonl", partial(_step, trainer, loss.beta))
    trainer.add_callback(lines)
    write = partial(save_result, start=policy, training=training, dtype=dtype or policy.dtype, seed=seed)

    def save(target: Path) -> None:
        write(trainer.model, tokenizer, target)

    trainer.add_callback(WritePoints(points, folder, save, first=True))
    stopped = train_while_finite(trainer)
    if stopped and not lines.losses:
        raise ModelError(f"{stopped}; {REMEDY}")
    finish_points(points, folder, folder, save, policy, first=True)
    save(folder)
    return {
        **lines.report(),
        "seconds": time.monotonic() - started,
        "examples": untied,
        "pairs": len(rows),
        "tied_examples": len(groups) - untied,
        **counts,
        "micro_batch_size": micro,
        **_report(trainer, read_steps(folder / "steps.jsonl"), points, stopped),
    }


def _report(
    trainer: "PairTrainer", steps: list[dict[str, Any]], points: Sequence[Point], stopped: str | None
) -> dict[str, Any]:
    """The part of the report about what the trainer did; failure signs, and why it stopped early, are logged too."""
    warnings = failure_signs(steps)
    for sign in [*warnings, *([stopped] if stopped else [])]:
        _log.warning("%s", sign)
    return {
        "tokens": trainer.tokens,
        "prompts_seen": trainer.pairs_seen,
        "trained_parameters": trainable_parameters(trainer.model),
        "products": products(trainer.autocast),
        "rows": "two a pair",
        "warnings": warnings,
        **points_report(points, steps, trainer.state.max_steps),
        **({"stopped": f"{stopped}; the weights of step {len(steps)} were kept"} if stopped else {}),
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


def _arguments(loss: TrlLoss, training: Training, folder: Path, seed: int, micro: int) -> DPOConfig:
    return DPOConfig(
        **run_arguments(training, folder=folder, seed=seed, micro=micro),
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
    going_on: GoingOn | None,
) -> "PairTrainer":
    model = load_untrained(policy, lora)
    check_window(
        model, max(len(r["prompt_ids"]) + len(r[side]) for r in rows for side in ("chosen_ids", "rejected_ids"))
    )
    try:
        trainer = PairTrainer(
            autocast_dtype(policy, lora),
            advance,
            going_on,
            model=model,
            ref_model=going_on.reference() if going_on else None,
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

    def __init__(
        self, autocast: torch.dtype | None, advance: Advance, going_on: GoingOn | None, **options: Any
    ) -> None:
        self.going_on = going_on
        super().__init__(autocast, advance, **options)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Called by TRL before the first step, when the model is the one that training starts from."""
        reference = self.going_on.prepare(self.model) if self.going_on else None
        if reference is None:
            return super()._precompute_ref_logps(dataset, name, batch_size)
        self.ref_model = reference
        try:
            return super()._precompute_ref_logps(dataset, name, batch_size)
        finally:
            self.ref_model = None

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
