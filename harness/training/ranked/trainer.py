"""Trains a policy on ranked examples with any loss: the run around `RankedTrainer`, its checkpoints and its report."""

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import TrainingArguments

from harness.errors import ModelError
from harness.logprobs.head import give_logps
from harness.logprobs.layout import check_window, shared_prefix_obstacle
from harness.models.checkpoints.adapters import name_base
from harness.models.checkpoints.folder import is_adapter
from harness.models.config import text_config
from harness.models.load import Dtype, device
from harness.protocols import Loss
from harness.recipe.policy import Policy, policy_tokenizer
from harness.recipe.training import Training
from harness.training.budget import Budget, Epoch, steps_for
from harness.training.deploy import save_result
from harness.training.finite import NotFinite
from harness.training.memory import give_back
from harness.training.policy import (
    autocast_dtype,
    load_policy,
    products,
    trainable_parameters,
    uncast_adapter_inputs,
)
from harness.training.ranked.batch import Group, collate, group_rows, lengths_of, tokenize
from harness.training.ranked.probe import usable_groups
from harness.training.ranked.ranked_trainer import AlreadyDone, RankedTrainer, RunOptions
from harness.training.ranked.resume import CHECKSUMS, checkpoints, last_checkpoint
from harness.training.sharding import communicate_in, is_sharded
from harness.training.signs import failure_signs
from harness.training.steps import keep_steps, read_steps
from harness.types import Advance, RankedExample

_log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
"""Policies on the way, `step-N`, beside the trained one."""
STATE = (
    *("optimizer*", "scheduler.pt", "rng_state*", "training_args.bin", "trainer_state.json", "global_step*"),
    *("pytorch_model_fsdp*", CHECKSUMS),
)
"""The files of a checkpoint that only its trainer needs."""


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
    dtype: Dtype | None = None,
) -> dict[str, Any]:
    """Train, write `folder/checkpoint`, `folder/trained` where that was rounded, and `folder/steps.jsonl` (one line per
    optimizer step), and report.

    reference: example id -> one summed log-probability per response, in the example's order, computed by `score_rows`
    with the same maximum lengths. micro_batch_size: prompts per forward, rounded down to a divisor of a process's share
    of the batch; like bounded_memory (one response at a time) it affects only memory and speed. advance: called with
    the number of prompts just done. partial_folder: where `training.save_every` saves the state that a stopped run
    resumes from. report_to: transformers' names of the curve loggers. budget: replaces `training.epochs` by the nearest
    number of steps. dtype: of the weights of a whole model; None: the policy's. The report's `prompts_seen` and
    `forward_tokens` (unpadded) count what went through the policy.

    Examples without a preference for the loss (all scores tied, or fewer than two scored responses) are skipped and
    counted. N may differ between examples. An empty response is its end token. Long texts are truncated and counted; a
    text beyond the model's window is an error, like a missing or non-finite score or reference. A non-finite loss or
    gradient stops the run before the weights change: they are kept, and the report's `stopped` says when and why.
    Raises DataError for examples that can't be used, ModelError for a policy that can't be used, or if the very first
    step is not finite. In a run of several processes the first one writes and reports; all return the same.
    """
    started = time.monotonic()
    give_back()
    setup = _set_up(policy, examples, reference, loss, training, seed, bounded_memory)
    max_steps = steps_for(budget, setup.epoch(training.batch_size)) if budget else None
    work = partial_folder or folder
    work.mkdir(parents=True, exist_ok=True)
    arguments = _arguments(training, work, seed, micro_batch_size, report_to, max_steps)
    resumed = last_checkpoint(work)
    steps = work / "steps.jsonl"
    pad_id = int(setup.tokenizer.pad_token_id)
    trainer = RankedTrainer(
        setup.model,
        arguments,
        setup.groups,
        partial(collate, pad_id=pad_id, shared=setup.obstacle is None, counted=setup.counted),
        loss,
        RunOptions(autocast_dtype(policy, training.lora), bounded_memory, steps, seed, advance),
        setup.tokenizer,
    )
    stopped = _run(trainer, resumed)
    lines = read_steps(steps)
    if stopped and not lines:
        raise ModelError(f"{stopped}; lower learning_rate or max_grad_norm, or use a wider dtype")
    save = partial(save_result, start=policy, training=training, dtype=dtype or policy.dtype, seed=seed)
    _write(trainer, folder, work, setup, save)
    report = {"seconds": time.monotonic() - started, "micro_batch_size": arguments.per_device_train_batch_size}
    report["products"] = products(trainer.options.autocast)
    return {**_step_figures(lines), **report, **setup.figures(), **_warnings(lines, stopped)}


@dataclass(frozen=True)
class _Setup:
    """The policy, its model and tokenizer, the groups with a preference for the loss, and the number of tied ones.
    `obstacle`: why rows hold one response each; None: rows share the prompt. `counted`: whether tokens are counted as
    in shared rows. That doesn't depend on `bounded_memory`, so budgets don't either."""

    policy: Policy
    model: Any
    tokenizer: Any
    groups: list[Group]
    counts: dict[str, int]
    tied: int
    obstacle: str | None
    counted: bool

    def epoch(self, batch_size: int) -> Epoch:
        """The size of one pass over the data."""
        tokens = sum(len(row.input_ids) for group in self.groups for row in group_rows(group, shared=self.counted))
        return Epoch(len(self.groups), tokens, batch_size)

    def figures(self) -> dict[str, Any]:
        """The part of the report about the data and the model."""
        return {
            "examples": len(self.groups),
            "tied_examples": self.tied,
            **self.counts,
            "unused_responses": sum(not used for group in self.groups for used in group.computed),
            "trained_parameters": trainable_parameters(self.model),
            "rows": f"one a response: {self.obstacle}" if self.obstacle else "one a prompt, shared prefix",
        }


def _set_up(
    policy: Policy,
    examples: Sequence[RankedExample],
    reference: Mapping[str, Sequence[float]],
    loss: Loss,
    training: Training,
    seed: int,
    bounded_memory: bool,
) -> _Setup:
    tokenizer = policy_tokenizer(policy)
    lengths = {"max_prompt_length": training.max_prompt_length, "max_length": training.max_length}
    groups, counts = tokenize(examples, reference, tokenizer, **lengths)
    usable = usable_groups(groups, loss, all_responses=training.all_responses)
    model = load_policy(policy, training.lora, seed)
    check_window(model, max(len(g.prompt) + len(r) for g in usable for r in g.responses))
    obstacle = shared_prefix_obstacle(model, [lengths_of(group) for group in usable])
    counted = obstacle is None
    obstacle = "memory is bounded to one response at a time" if bounded_memory else obstacle
    if obstacle:
        _log.info("%s: one row per response: %s", policy.model, obstacle)
    if getattr(text_config(model), "router_aux_loss_coef", None):
        _log.info("%s: no auxiliary loss balances its experts: router_aux_loss_coef is not used", policy.model)
    give_logps(model)
    return _Setup(policy, model, tokenizer, usable, counts, len(groups) - len(usable), obstacle, counted)


def _step_figures(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The part of the report that summarises steps.jsonl; losses are means over the first and the last quarter."""
    quarter = max(1, len(lines) // 4)
    losses = [line["loss"] for line in lines]
    return {
        "steps": len(lines),
        "first_loss": fmean(losses[:quarter]),
        "last_loss": fmean(losses[-quarter:]),
        "tokens": sum(line["tokens"] for line in lines),
        "forward_tokens": sum(line["forward_tokens"] for line in lines),
        "prompts_seen": sum(line["prompts"] for line in lines),
    }


def _warnings(lines: list[dict[str, Any]], stopped: str | None) -> dict[str, Any]:
    """Failure signs, and why training stopped early, for the report; both are logged too."""
    signs = failure_signs(lines)
    for sign in [*signs, *([stopped] if stopped else [])]:
        _log.warning("%s", sign)
    reason = {"stopped": f"{stopped}; the weights of step {len(lines)} were kept"} if stopped else {}
    return {"warnings": signs, **reason}


def _arguments(
    training: Training, work: Path, seed: int, micro_batch_size: int, report_to: Sequence[str], max_steps: int | None
) -> TrainingArguments:
    on_cpu = device().type == "cpu"
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
        use_cache=True,  # Trainer writes this into the saved configuration; no forward here uses a cache
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps" if training.save_every else "no",
        save_steps=training.save_every or 500,
        report_to=list(report_to) or "none",
        disable_tqdm=True,
        # Sharded gradients are added up in float32 batch by batch, rather than kept whole in every process.
        accelerator_config={"gradient_accumulation_kwargs": {"sync_each_batch": is_sharded()}},
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # as Trainer itself does to avoid nn.DataParallel
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
    """Train, from a checkpoint where there is one; returns the reason if the run stopped early."""
    options, kind = trainer.options, trainer.accelerator.distributed_type
    _log.info("training in %d process(es): %s", trainer.accelerator.num_processes, kind.value)
    if options.bounded_memory and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise ModelError("runtime.memory: one_response works in one process or with DDP; use checkpointed")
    if trainer.is_world_process_zero():
        keep_steps(options.steps, int(resumed.name.removeprefix("checkpoint-")) if resumed else 0)
    trainer.accelerator.wait_for_everyone()
    if resumed:
        _log.info("training resumes from %s", resumed.name)
    if trainer.is_fsdp_enabled and options.autocast and all(p.requires_grad for p in trainer.model.parameters()):
        communicate_in(options.autocast, trainer.accelerator)
    try:
        with uncast_adapter_inputs(trainer.model, trainer.options.autocast):
            trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    except NotFinite as error:
        return str(error)
    except AlreadyDone:
        _log.info("that is the checkpoint of the last step: nothing is left to train")
    return None


def _write(trainer: RankedTrainer, folder: Path, work: Path, setup: _Setup, save: Callable[..., None]) -> None:
    """Write the trained policy, the intermediate ones and the step lines into the run's folder. `save`: `save_result`
    with the run's settings."""
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    weights = _gathered(trainer) if sharded else None
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model)
        save(model, setup.tokenizer, folder, weights=weights)
        for checkpoint in checkpoints(work):
            # A copy: until the artifact is published, a killed run resumes from the original.
            target = folder / CHECKPOINTS / checkpoint.name.replace("checkpoint", "step")
            shutil.copytree(checkpoint, target, ignore=shutil.ignore_patterns(*STATE))
            if is_adapter(target):
                name_base(target, setup.policy.model, setup.policy.revision)
            if work == folder:
                shutil.rmtree(checkpoint)
        if work != folder:
            shutil.copyfile(work / "steps.jsonl", folder / "steps.jsonl")
    trainer.accelerator.wait_for_everyone()


def _gathered(trainer: RankedTrainer) -> dict[str, Any]:
    """The sharded weights of all processes, in the first one. Names of one weight share one tensor, so that it is saved
    once."""
    weights: dict[str, Any] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    names: dict[int, str] = {}
    for name, parameter in trainer.accelerator.unwrap_model(trainer.model).named_parameters(remove_duplicate=False):
        first = names.setdefault(id(parameter), name)
        if first in weights and name in weights:
            weights[name] = weights[first]
    return weights
