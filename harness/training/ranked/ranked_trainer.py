"""transformers' Trainer over groups of ranked responses: one forward per response feeds every loss."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from harness.logprobs.inputs import padding_in_forward
from harness.logprobs.rows import FORWARD, Batch
from harness.models.checkpoints.saving import follow_umask
from harness.models.schedule import WarmUp
from harness.protocols import Loss, RankedLogps
from harness.training.finite import StopIfNotFinite
from harness.training.ranked.batch import Group, single_rows
from harness.training.ranked.metrics import ForwardResult, flatten, peak_memory_gigabytes, step_metrics
from harness.training.ranked.order import EpochOrder
from harness.training.ranked.resume import write_checksums
from harness.types import Advance

_log = logging.getLogger(__name__)

STAND_IN = ""
"""The id of a group that fills up a batch and is not counted."""


class AlreadyDone(Exception):
    """The checkpoint that a run resumes from is that of its last step."""


@dataclass(frozen=True)
class RunOptions:
    """How to run a training. autocast: the dtype of matrix products; None: that of the weights. bounded_memory: one
    response at a time. steps: the JSONL file that step lines are appended to. seed: of the loss's `draws`."""

    autocast: torch.dtype | None
    bounded_memory: bool
    steps: Path
    seed: int
    advance: Advance


def stand_in(groups: Sequence[Group]) -> Group:
    """The shortest group, with all scores set equal so that no loss counts it."""
    shortest = min(groups, key=lambda g: len(g.prompt) + sum(map(len, g.responses)))
    return shortest._replace(id=STAND_IN, scores=(0.0,) * len(shortest.scores))


class RankedTrainer(WarmUp, Trainer):  # type: ignore[misc]
    """The loss is the mean over all prompts of an optimizer step, however many forwards and processes it takes.

    `model` must have been through `give_logps`. `train` raises NotFinite, in every process at the same step, and
    AlreadyDone.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: nn.Module,
        arguments: TrainingArguments,
        groups: Sequence[Group],
        collator: Callable[[Sequence[Group]], Batch],
        loss: Loss,
        options: RunOptions,
        processing_class: Any,
    ) -> None:
        super().__init__(
            model=model,
            args=arguments,
            data_collator=collator,
            train_dataset=[*groups, stand_in(groups)],
            processing_class=processing_class,
            callbacks=[StopIfNotFinite(self, lambda: self.cause)],
        )
        self.remove_callback(PrinterCallback)
        processes = self.accelerator.num_processes
        multiple = processes * arguments.per_device_train_batch_size if processes > 1 else 1
        self.order = EpochOrder(len(groups), arguments.data_seed, multiple)
        self.add_callback(_KeepPosition(self.order))
        self.loss = loss
        self.options = options
        self.cause = ""
        self._forwards: list[ForwardResult] = []
        self._clock = time.monotonic()

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        """The order of the real groups, then enough stand-ins to fill the last batch of every process."""
        return self.order

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], int]:
        """The micro-batches of the next optimizer step, and the number of prompts in those of all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = torch.tensor(sum(name != STAND_IN for batch in batches for name in batch["ids"]), device=device)
        return batches, int(self.accelerator.reduce(count, "sum"))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process saves the state of its random numbers
        if self.is_world_process_zero():
            checkpoint = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            follow_umask(checkpoint)  # on a shared store somebody else may resume from it
            write_checksums(checkpoint)

    def compute_loss_context_manager(self) -> AbstractContextManager[Any]:
        """Autocasting for the whole forward. Copies of weights are only kept where several forwards use them."""
        kind, several = self.args.device.type, self.options.bounded_memory
        dtype = self.options.autocast
        return torch.autocast(kind, dtype, cache_enabled=several) if dtype else nullcontext()

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: int | None = None
    ) -> Tensor:
        """The micro-batch's share of the step's mean loss. The factor offsets the averaging of gradients over
        processes."""
        prompts = num_items_in_batch or len(inputs["ids"])
        scale = self.accelerator.num_processes / prompts
        if self.options.bounded_memory:
            return self._two_passes(model, inputs, scale)
        logps, _ = model(**{name: inputs[name] for name in FORWARD if name in inputs})
        loss: Tensor = self._sum_of_losses(inputs, logps) * scale
        return loss

    def _two_passes(self, model: Any, inputs: Batch, scale: float) -> Tensor:
        """The same loss and gradient with one response's activations at a time (GradCache, 2101.06983). The loss sees
        the network only through the log-probabilities. So first compute its gradient with respect to those, without one
        through the network; then repeat each response's forward and weight it by its share of that gradient."""
        rows = list(single_rows(inputs))
        with torch.no_grad():
            logps = torch.cat([model(**row)[0] for row in rows])
        loss = self._sum_of_losses(inputs, logps.requires_grad_()) * scale
        (weights,) = torch.autograd.grad(loss, logps)
        for weight, row in zip(weights[:-1], rows[:-1], strict=True):
            # Only the last backward of a step may sum the gradients over processes.
            with self.accelerator.no_sync(model):
                part = (weight * model(**row)[0]).sum()
                with torch.autocast(self.args.device.type, enabled=False):
                    self.accelerator.backward(part)
        last = (weights[-1] * model(**rows[-1])[0]).sum()
        # The gradient is that of the last response, the value that of the whole loss.
        value: Tensor = last + (loss - last).detach()
        return value

    def _sum_of_losses(self, inputs: Batch, logps: Tensor) -> Tensor:
        """The summed loss of a micro-batch from the log-probabilities [K] of its computed responses. Responses that are
        not computed get the reference's log-probability, on which the loss doesn't depend."""
        batch = RankedLogps(
            logps=inputs["ref_logps"].masked_scatter(inputs["computed"], logps),
            ref_logps=inputs["ref_logps"],
            scores=inputs["scores"],
            lengths=inputs["response_lengths"],
            mask=inputs["mask"],
            draws=self._draws(inputs),
        )
        losses, _ = self.loss(batch)
        total = losses.sum()
        if not (logps.isfinite().all() and losses.isfinite().all()):
            what = "the loss" if logps.isfinite().all() else "a log-probability"
            self.cause = f"{what} is not finite on examples {', '.join(inputs['ids'])}"
            total = total * float("nan")  # the gradient carries it to every process
        self._note(inputs, batch)
        return total

    def _draws(self, inputs: Batch) -> Tensor:
        """Uniform numbers [B, N], fixed by (seed, epoch, example)."""
        epoch, width = int(self.state.epoch or 0), inputs["mask"].shape[1]
        streams = [np.random.default_rng([self.options.seed, epoch, *name.encode()]) for name in inputs["ids"]]
        numbers = np.stack([stream.random(width) for stream in streams])
        return torch.tensor(numbers, dtype=torch.float32, device=inputs["mask"].device)

    def _note(self, inputs: Batch, batch: RankedLogps) -> None:
        """Keep the real groups of the micro-batch for the step's metrics."""
        real = torch.tensor([name != STAND_IN for name in inputs["ids"]])
        tokens = sum(n for n, name in zip(inputs["input_tokens"], inputs["ids"], strict=True) if name != STAND_IN)
        logps = RankedLogps(*(tensor.detach().cpu()[real] for tensor in batch if tensor is not None))
        if real.any():
            padding = 0 if self.options.bounded_memory else padding_in_forward(self.model, inputs)
            self._forwards.append(ForwardResult(logps, inputs["computed"].cpu()[real], tokens, padding))
        self.options.advance(int(real.sum()))  # each process reports its own

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write a step's line. Trainer's closing summary has no grad_norm, and goes only to Trainer's own log."""
        if "grad_norm" in logs:
            line = self._step_line(logs)
            logs = flatten({name: value for name, value in line.items() if name != "step"})
        super().log(logs, start_time)

    def _step_line(self, logs: Mapping[str, float]) -> dict[str, Any]:
        metrics = step_metrics(gather_object(self._forwards))
        self._forwards.clear()
        now = time.monotonic()
        line = {
            "step": self.state.global_step,
            **{name: logs[name] for name in ("loss", "learning_rate", "grad_norm")},
            **metrics,
            "tokens_per_second": metrics["forward_tokens"] / max(now - self._clock, 1e-9),
            "peak_memory_gb": peak_memory_gigabytes(),
        }
        self._clock = now
        if self.is_world_process_zero():
            with self.options.steps.open("a") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
        return line


class _KeepPosition(TrainerCallback):  # type: ignore[misc]
    """Keeps a resumed run in its position: sets the epoch's order, which the loader that skips past batches doesn't do
    in every process, and stops a run that already has all its steps."""

    def __init__(self, order: EpochOrder) -> None:
        self._order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._order.set_epoch(int(state.epoch or 0))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            raise AlreadyDone
