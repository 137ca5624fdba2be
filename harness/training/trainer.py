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

import torch
from transformers import TrainingArguments

from harness import models
from harness.errors import DataError, ModelError
from harness.protocols import Loss, RankedLogps
from harness.recipe import Policy, Training
from harness.training.batch import Group, collate, rows, tokenize
from harness.training.budget import Budget, Epoch, steps_for
from harness.training.head import give_logps
from harness.training.layout import lengths_of, shared_prefix_obstacle
from harness.training.policy import (
    autocast_dtype,
    load_policy,
    save_policy,
    trainable_parameters,
    uncast_adapter_inputs,
)
from harness.training.ranked_trainer import Manner, NotFinite, RankedTrainer
from harness.training.signs import failure_signs
from harness.types import Advance, RankedExample

_log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint"
"""The trained policy, in the folder of a run."""
CHECKPOINTS = "checkpoints"
"""Policies on the way, `step-N`, in the same folder."""
PROBES = 256
"""Random log-ratios that a loss is tried on to see which responses it looks at."""


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

    Examples that the loss finds no preference in (all scores tied) are left out and counted. A loss or gradient that is
    no number stops the run before the weights move: they are kept, and the report's `stopped` says when and why.
    Raises DataError for examples that can't be used, ModelError for a policy that can't be, or where the very first
    step is no number. In a run of several processes the first one writes and reports; all return the same.
    """
    started = time.monotonic()
    tokenizer = models.load_tokenizer(policy.model, policy.revision)
    lengths = {"max_prompt_length": training.max_prompt_length, "max_length": training.max_length}
    groups, counts = tokenize(examples, reference, tokenizer, **lengths)
    kept = usable(groups, loss, everything=training.all_responses)
    model = load_policy(policy, training.lora, seed)
    obstacle = shared_prefix_obstacle(model, [lengths_of(group) for group in kept])
    obstacle = "memory is bounded to one response at a time" if bounded_memory else obstacle
    if obstacle:
        _log.info("%s: one row a response: %s", policy.model, obstacle)
    give_logps(model)
    max_steps = None
    if budget:
        epoch_tokens = sum(len(row.input_ids) for group in kept for row in rows(group, shared=obstacle is None))
        max_steps = steps_for(budget, Epoch(len(kept), epoch_tokens, training.batch_size))
    work = partial_folder or folder
    work.mkdir(parents=True, exist_ok=True)
    arguments = _arguments(training, work, seed, micro_batch_size, report_to, max_steps)
    resumed = last_checkpoint(work)
    steps = work / "steps.jsonl"
    keep_steps(steps, resumed)
    trainer = RankedTrainer(
        model,
        arguments,
        kept,
        partial(collate, pad_id=int(tokenizer.pad_token_id), shared=obstacle is None),
        loss,
        Manner(autocast_dtype(policy, training.lora), bounded_memory, steps, seed, advance),
        tokenizer,
    )
    kind = trainer.accelerator.distributed_type
    _log.info("training in %d process(es): %s", trainer.accelerator.num_processes, kind.value)
    if bounded_memory and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise ModelError("runtime.bounded_memory works in one process or with DDP; FSDP and DeepSpeed bound it already")
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


def usable(groups: Sequence[Group], loss: Loss, *, everything: bool) -> list[Group]:
    """The groups that the loss finds a preference in, each with the responses that it looks at (`everything`: all).
    Raises DataError when there are none."""
    kept = []
    for group in groups:
        valid, used = _looked_at(group, loss)
        if valid:
            kept.append(group if everything or all(used) else group._replace(used=used))
    if not kept:
        raise DataError(f"none of {len(groups)} examples holds a preference: every one has all its scores tied")
    return kept


def _looked_at(group: Group, loss: Loss) -> tuple[bool, tuple[bool, ...]]:
    """Whether the loss counts this group (that depends on the scores alone), and which responses it depends on: those
    that have a gradient at any of many random log-ratios and draws."""
    generator = torch.Generator().manual_seed(0)
    shape = (PROBES, len(group.scores))
    logps = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    mask = torch.ones(shape, dtype=torch.bool)
    scores = torch.tensor([group.scores], dtype=torch.float32).expand(shape)
    lengths = torch.tensor([[len(r) for r in group.responses]]).expand(shape)
    draws = torch.rand(shape, generator=generator)
    losses, valid = loss(RankedLogps(logps, torch.zeros_like(logps).detach(), scores, lengths, mask, draws))
    if not valid[0]:
        return False, ()
    (gradient,) = torch.autograd.grad(losses.sum(), logps)
    return True, tuple((gradient != 0).any(dim=0).tolist())


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
    return None


def _write(trainer: RankedTrainer, folder: Path, work: Path, tokenizer: Any) -> None:
    """The trained policy, those on the way and the steps' lines, in the run's folder."""
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if sharded else None
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model)
        save_policy(model, tokenizer, folder / CHECKPOINT, weights)
        for checkpoint in checkpoints(work):
            strip(checkpoint)
            (folder / CHECKPOINTS).mkdir(exist_ok=True)
            shutil.move(checkpoint, folder / CHECKPOINTS / checkpoint.name.replace("checkpoint", "step"))
        if work != folder:
            shutil.copyfile(work / "steps.jsonl", folder / "steps.jsonl")
    trainer.accelerator.wait_for_everyone()


def checkpoints(work: Path) -> list[Path]:
    """The whole checkpoints that Trainer has written, oldest first: a state of the trainer is written last."""
    found = [p for p in work.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
    whole = [p for p in found if _is_json(p / "trainer_state.json")]
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


def strip(checkpoint: Path) -> None:
    """Leave of a checkpoint what transformers loads: the policy and its tokenizer."""
    for pattern in ("*.pt", "*.pth", "*.bin", "trainer_state.json"):
        for path in checkpoint.glob(pattern):
            path.unlink()


def read_steps(path: Path) -> list[dict[str, Any]]:
    """The lines of a steps.jsonl; a torn last one counts as not there."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def keep_steps(path: Path, resumed: Path | None) -> None:
    """Drop the lines after the checkpoint that the run goes on from."""
    last = int(resumed.name.removeprefix("checkpoint-")) if resumed else 0
    kept = [line for line in read_steps(path) if line["step"] <= last]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))
