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

from harness.errors import ModelError
from harness.logprobs.head import give_logps
from harness.logprobs.layout import check_padding, check_window, shared_prefix_obstacle
from harness.models.checkpoints.adapters import name_base
from harness.models.checkpoints.folder import is_adapter
from harness.models.config import text_config
from harness.models.load import Dtype
from harness.protocols import Loss
from harness.recipe.policy import Policy, policy_tokenizer
from harness.recipe.training import Point, Training
from harness.trackers.curves import curves
from harness.training.budget import Budget, Epoch, steps_for
from harness.training.deploy import save_result
from harness.training.finite import NotFinite
from harness.training.memory import give_back
from harness.training.points import WritePoints, finish_points, points_report
from harness.training.policy import (
    autocast_dtype,
    load_policy,
    products,
    trainable_parameters,
    uncast_adapter_inputs,
)
from harness.training.ranked.arguments import training_arguments
from harness.training.ranked.batch import Group, collate, group_rows, lengths_of, tokenize
from harness.training.ranked.probe import usable_groups
from harness.training.ranked.ranked_trainer import AlreadyDone, RankedTrainer, RunOptions
from harness.training.ranked.resume import CHECKSUMS, checkpoints, last_checkpoint
from harness.training.sharding import communicate_in
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
    budget: Budget | None = None,
    dtype: Dtype | None = None,
    points: Sequence[Point] = (),
    adapter: Path | None = None,
) -> dict[str, Any]:
    """Train, write `folder/checkpoint`, `folder/trained` where that was rounded, and `folder/steps.jsonl` (one line per
    optimizer step), and report. `points`: also write these checkpoints, into `folder/at/NAME`. `adapter`: the folder of
    an adapter of the policy, whose training goes on.

    reference: example id -> one summed log-probability per response, in the example's order, computed by `score_rows`
    with the same maximum lengths. micro_batch_size: prompts per forward, rounded down to a divisor of a process's share
    of the batch; like bounded_memory (one response at a time) it affects only memory and speed. advance: called with
    the number of prompts just done. partial_folder: where `training.save_every` saves the state that a stopped run
    resumes from. budget: replaces `training.epochs` by the nearest number of steps. dtype: of the weights of a whole
    model; None: the policy's. The report's `prompts_seen` and `forward_tokens` (unpadded) went through the policy.

    Examples without a preference for the loss (all scores tied, or fewer than two scored responses) are skipped and
    counted. N may differ between examples. An empty response is its end token. Long texts are truncated and counted; a
    text beyond the model's window is an error, like a missing or non-finite score or reference. A non-finite loss or
    gradient stops the run before the weights change: they are kept, and the report's `stopped` says when and why.
    Raises DataError for examples that can't be used, ModelError for a policy that can't be used, or if the very first
    step is not finite. In a run of several processes the first one writes and reports; all return the same.
    """
    started = time.monotonic()
    give_back()
    setup = _set_up(policy, examples, reference, loss, training, seed, bounded_memory, adapter)
    max_steps = steps_for(budget, setup.epoch(training.batch_size)) if budget else None
    work = partial_folder or folder
    work.mkdir(parents=True, exist_ok=True)
    arguments = training_arguments(training, work, seed, micro_batch_size, max_steps)
    steps = work / "steps.jsonl"
    trainer = RankedTrainer(
        setup.model,
        arguments,
        setup.groups,
        setup.collate,
        loss,
        RunOptions(autocast_dtype(policy, training.lora), bounded_memory, steps, seed, advance),
        setup.tokenizer,
    )
    write = partial(save_result, start=policy, training=training, dtype=dtype or policy.dtype, seed=seed)
    save, first = partial(_save, trainer, setup, write), trainer.is_world_process_zero()
    trainer.add_callback(WritePoints(points, work, save, first=first))
    stopped = _run(trainer, last_checkpoint(work))
    lines = read_steps(steps)
    if stopped and not lines:
        raise ModelError(f"{stopped}; lower learning_rate or max_grad_norm, or use a wider dtype")
    finish_points(points, work, folder, save, policy, first=first)
    _write(trainer, folder, work, setup, save)
    report = {"seconds": time.monotonic() - started, "micro_batch_size": arguments.per_device_train_batch_size}
    report |= {"products": products(trainer.options.autocast)} | points_report(points, lines, trainer.state.max_steps)
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

    @property
    def collate(self) -> Callable[..., Any]:
        """Makes a batch of groups."""
        pad_id = int(self.tokenizer.pad_token_id)
        return partial(collate, pad_id=pad_id, shared=self.obstacle is None, counted=self.counted)

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
    adapter: Path | None,
) -> _Setup:
    tokenizer = policy_tokenizer(policy)
    lengths = {"max_prompt_length": training.max_prompt_length, "max_length": training.max_length}
    groups, counts = tokenize(examples, reference, tokenizer, **lengths)
    usable = usable_groups(groups, loss, all_responses=training.all_responses)
    model = load_policy(policy, training.lora, seed, adapter)
    check_window(model, max(len(g.prompt) + len(r) for g in usable for r in g.responses))
    obstacle = shared_prefix_obstacle(model, [lengths_of(group) for group in usable])
    check_padding(model)
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


def _run(trainer: RankedTrainer, resumed: Path | None) -> str | None:
    """Train, from a checkpoint where there is one; returns the reason if the run stopped early."""
    options, kind = trainer.options, trainer.accelerator.distributed_type
    _log.info("training in %d process(es): %s", trainer.accelerator.num_processes, kind.value)
    if options.bounded_memory and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise ModelError("runtime.memory: one_response works in one process or with DDP; use checkpointed")
    done = int(resumed.name.removeprefix("checkpoint-")) if resumed else 0
    if trainer.is_world_process_zero():
        keep_steps(options.steps, done)
    trainer.accelerator.wait_for_everyone()
    if resumed:
        _log.info("training resumes from %s", resumed.name)
    if trainer.is_fsdp_enabled and options.autocast and all(p.requires_grad for p in trainer.model.parameters()):
        communicate_in(options.autocast, trainer.accelerator)
    try:
        with uncast_adapter_inputs(trainer.model, trainer.options.autocast), curves(done) as callbacks:
            for callback in callbacks:
                trainer.add_callback(callback)
            trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    except NotFinite as error:
        return str(error)
    except AlreadyDone:
        _log.info("that is the checkpoint of the last step: nothing is left to train")
    return None


def _save(trainer: RankedTrainer, setup: _Setup, write: Callable[..., None], folder: Path) -> None:
    """Write the policy as it is now into a folder. `write`: `save_result` with the run's settings."""
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    weights = _gathered(trainer) if sharded else None
    if trainer.is_world_process_zero():
        write(trainer.accelerator.unwrap_model(trainer.model), setup.tokenizer, folder, weights=weights)
    trainer.accelerator.wait_for_everyone()


def _write(trainer: RankedTrainer, folder: Path, work: Path, setup: _Setup, save: Callable[[Path], None]) -> None:
    """Write the trained policy, the intermediate ones and the step lines into the run's folder."""
    save(folder)
    if trainer.is_world_process_zero():
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
