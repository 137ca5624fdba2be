"""Trains a policy on ranked examples with any loss: the run around `RankedTrainer`, its checkpoints and its report."""

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import TrainingArguments

from harness import models
from harness.errors import ModelError
from harness.protocols import Loss
from harness.recipe import Policy, Training
from harness.training.batch import collate, rows, tokenize
from harness.training.budget import Budget, Epoch, steps_for
from harness.training.finite import NotFinite
from harness.training.head import give_logps
from harness.training.layout import check_window, lengths_of, shared_prefix_obstacle
from harness.training.policy import (
    autocast_dtype,
    load_policy,
    save_policy,
    trainable_parameters,
    uncast_adapter_inputs,
)
from harness.training.probe import usable
from harness.training.ranked_trainer import AlreadyDone, Manner, RankedTrainer
from harness.training.signs import failure_signs
from harness.training.steps import keep_steps, read_steps
from harness.types import Advance, RankedExample

_log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint"
"""The trained policy, in the folder of a run."""
CHECKPOINTS = "checkpoints"
"""Policies on the way, `step-N`, in the same folder."""
STATE = ("optimizer*", "scheduler.pt", "rng_state*", "training_args.bin", "trainer_state.json", "global_step*")
"""What of a checkpoint only its trainer needs."""


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
    partial_folder: Path | None = None,
    bounded_memory: bool = False,
    report_to: Sequence[str] = (),
    budget: Budget | None = None,
) -> dict[str, Any]:
    """Train, write `folder/checkpoint` and `folder/steps.jsonl` (one line an optimizer step), and report.

    reference: example id -> one summed log-probability a response, in the example's order, computed by `score_rows`
    with the same maximum lengths. micro_batch_size: prompts in one forward (or the largest divisor of a process's share
    of the batch below it); like bounded_memory (one response at a time) it changes nothing but memory and speed.
    advance: told the number of prompts just done. partial_folder: where `training.save_every` keeps the state that a
    stopped run goes on from. report_to: transformers' names of what draws curves. budget: in place of
    `training.epochs`, what to come nearest to. The report's `prompts_seen` and `forward_tokens` (real input tokens) are
    what went through the policy in training.

    Examples that the loss finds no preference in (all scores tied, or fewer than two responses with a score) are left
    out and counted; N may differ by example; an empty response is its end token; what is too long is cut and counted,
    and beyond the model's window refused; a score or reference that is missing or no number is an error. A loss or
    gradient that is no number stops the run before the weights move: they are kept, and the report's `stopped` says
    when and why.
    Raises DataError for examples that can't be used, ModelError for a policy that can't be, or where the very first
    step is no number. In a run of several processes the first one writes and reports; all return the same.
    """
    started = time.monotonic()
    tokenizer = models.load_tokenizer(policy.model, policy.revision)
    lengths = {"max_prompt_length": training.max_prompt_length, "max_length": training.max_length}
    groups, counts = tokenize(examples, reference, tokenizer, **lengths)
    kept = usable(groups, loss, everything=training.all_responses)
    model = load_policy(policy, training.lora, seed)
    check_window(model, max(len(g.prompt) + len(r) for g in kept for r in g.responses))
    obstacle = shared_prefix_obstacle(model, [lengths_of(group) for group in kept])
    # Tokens are counted as in these rows, whatever memory is bounded to: a budget must not depend on that.
    counted = obstacle is None
    obstacle = "memory is bounded to one response at a time" if bounded_memory else obstacle
    if obstacle:
        _log.info("%s: one row a response: %s", policy.model, obstacle)
    give_logps(model)
    max_steps = None
    if budget:
        epoch_tokens = sum(len(row.input_ids) for group in kept for row in rows(group, shared=counted))
        max_steps = steps_for(budget, Epoch(len(kept), epoch_tokens, training.batch_size))
    work = partial_folder or folder
    work.mkdir(parents=True, exist_ok=True)
    arguments = _arguments(training, work, seed, micro_batch_size, report_to, max_steps)
    resumed = last_checkpoint(work)
    steps = work / "steps.jsonl"
    trainer = RankedTrainer(
        model,
        arguments,
        kept,
        partial(collate, pad_id=int(tokenizer.pad_token_id), shared=obstacle is None, counted=counted),
        loss,
        Manner(autocast_dtype(policy, training.lora), bounded_memory, steps, seed, advance),
        tokenizer,
    )
    kind = trainer.accelerator.distributed_type
    _log.info("training in %d process(es): %s", trainer.accelerator.num_processes, kind.value)
    if bounded_memory and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise ModelError("runtime.bounded_memory works in one process or with DDP; FSDP and DeepSpeed bound it already")
    if trainer.is_world_process_zero():
        keep_steps(steps, int(resumed.name.removeprefix("checkpoint-")) if resumed else 0)
    trainer.accelerator.wait_for_everyone()
    stopped = _run(trainer, resumed)
    lines = read_steps(steps)
    if stopped and not lines:
        raise ModelError(f"{stopped}; lower learning_rate or max_grad_norm, or use a wider dtype")
    _write(trainer, folder, work, tokenizer)
    quarter = max(1, len(lines) // 4)
    losses = [line["loss"] for line in lines]
    warnings = failure_signs(lines)
    for sign in [*warnings, *([stopped] if stopped else [])]:
        _log.warning("%s", sign)
    return {
        "steps": len(lines),
        "first_loss": fmean(losses[:quarter]),
        "last_loss": fmean(losses[-quarter:]),
        "tokens": sum(line["tokens"] for line in lines),
        "forward_tokens": sum(line["forward_tokens"] for line in lines),
        "prompts_seen": sum(line["prompts"] for line in lines),
        "seconds": time.monotonic() - started,
        "examples": len(kept),
        "tied_examples": len(groups) - len(kept),
        **counts,
        "unused_responses": sum(not used for group in kept for used in group.computed),
        "trained_parameters": trainable_parameters(model),
        "micro_batch_size": arguments.per_device_train_batch_size,
        "rows": f"one a response: {obstacle}" if obstacle else "one a prompt, shared prefix",
        "warnings": warnings,
        **({"stopped": f"{stopped}; the weights of step {len(lines)} were kept"} if stopped else {}),
    }


def _arguments(
    training: Training, work: Path, seed: int, micro_batch_size: int, report_to: Sequence[str], max_steps: int | None
) -> TrainingArguments:
    on_cpu = models.device().type == "cpu"
    arguments = TrainingArguments(
        output_dir=str(work),
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
        save_strategy="steps" if training.save_every else "no",
        save_steps=training.save_every or 500,
        report_to=list(report_to) or "none",
        disable_tqdm=True,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # as Trainer itself does where nn.DataParallel must not be used
    share, rest = divmod(training.batch_size, arguments.world_size)
    if rest:
        raise ModelError(
            f"batch_size {training.batch_size} can't be shared by {arguments.world_size} processes; "
            "expected a multiple: change training.batch_size or num_processes"
        )
    micro = max(m for m in range(1, min(micro_batch_size, share) + 1) if share % m == 0)
    arguments.per_device_train_batch_size = micro
    arguments.gradient_accumulation_steps = share // micro
    return arguments


def _run(trainer: RankedTrainer, resumed: Path | None) -> str | None:
    """Train; what stopped the run early, if anything did."""
    if resumed:
        _log.info("training goes on from %s", resumed.name)
    try:
        with uncast_adapter_inputs(trainer.model, trainer.manner.autocast):
            trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    except NotFinite as stop:
        return str(stop)
    except AlreadyDone:
        _log.info("it is the checkpoint of the last step")
    return None


def _write(trainer: RankedTrainer, folder: Path, work: Path, tokenizer: Any) -> None:
    """The trained policy, those on the way and the steps' lines, in the run's folder."""
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if sharded else None
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model)
        save_policy(model, tokenizer, folder / CHECKPOINT, weights)
        for checkpoint in checkpoints(work):
            # A copy: until the artifact is published, a run that is killed goes on from what it has.
            place = folder / CHECKPOINTS / checkpoint.name.replace("checkpoint", "step")
            shutil.copytree(checkpoint, place, ignore=shutil.ignore_patterns(*STATE))
            if work == folder:
                shutil.rmtree(checkpoint)
        if work != folder:
            shutil.copyfile(work / "steps.jsonl", folder / "steps.jsonl")
    trainer.accelerator.wait_for_everyone()


def checkpoints(work: Path) -> list[Path]:
    """The whole checkpoints that Trainer has written, oldest first: a state of the trainer is written last. One without
    the optimizer's is none: Trainer would go on from it with a new one, and say nothing."""
    found = [p for p in work.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
    whole = [
        p for p in found if _is_json(p / "trainer_state.json") and [*p.glob("optimizer*"), *p.glob("global_step*")]
    ]
    return sorted(whole, key=lambda p: int(p.name.removeprefix("checkpoint-")))


def last_checkpoint(work: Path) -> Path | None:
    """The checkpoint that a stopped run goes on from."""
    return next(reversed(checkpoints(work)), None)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True
