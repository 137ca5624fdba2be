"""What runs of TRL's trainers share: their arguments, made equal to those of the harness's own trainer, and the log."""

import json
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import TrainerCallback

from harness import models
from harness.recipe import Training
from harness.training.finite import NotFinite, StopAtNoNumber
from harness.training.policy import uncast_adapter_inputs
from harness.types import Advance


def micro_batch_of(training: Training, micro_batch_size: int) -> int:
    """Rows of one forward: the largest divisor of the batch size that isn't above `micro_batch_size`."""
    return max(m for m in range(1, min(micro_batch_size, training.batch_size) + 1) if training.batch_size % m == 0)


def run_arguments(training: Training, *, folder: Path, seed: int, micro: int) -> dict[str, Any]:
    """Arguments of a TRL configuration (DPOConfig, SFTConfig) where it would choose otherwise than the harness's own
    trainer: no half precision of its own, no checkpointing, no truncation, no file, no bar and no report."""
    on_cpu = models.device().type == "cpu"
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": training.batch_size // micro,
        "num_train_epochs": training.epochs,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.lr_scheduler,
        "warmup_steps": training.warmup_ratio,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "gradient_checkpointing": training.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "max_length": None,  # rows are cut already, by the one function that cuts
        "bf16": False,  # what autocasts is `products`, as in the harness's own trainer
        "seed": seed,
        "data_seed": seed,
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "use_cache": True,  # Trainer writes this into the saved configuration; no forward here uses one
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def one_device(arguments: Any) -> Any:
    """Arguments that keep to one accelerator, as the harness's trainer does: TRL refuses nn.DataParallel."""
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def float32_adapters(model: torch.nn.Module) -> None:
    """What is trained, in float32 as in the harness's own trainer: on a quantised base TRL makes it bfloat16, in which
    updates of preference training's size are lost."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


MILDER = "lower learning_rate or max_grad_norm, or use a wider dtype"
"""What to do about a gradient that is no number."""


def run_until_no_number(trainer: Any) -> str | None:
    """Train; what stopped it before a step that is no number, if anything did: the weights before it are kept."""
    trainer.add_callback(StopAtNoNumber(trainer))
    try:
        with uncast_adapter_inputs(trainer.model, trainer.autocast):
            trainer.train()
    except NotFinite as stop:
        return str(stop)
    return None


def products(dtype: torch.dtype | None) -> torch.autocast:
    """While open, matrix products are in `dtype`; for None, in that of the weights."""
    return torch.autocast(models.device().type, dtype, enabled=dtype is not None)


class Quiet:
    """What our kinds of TRL's trainers do differently from them: autocasting as in the harness's own trainer, from
    their first forward on, and no telemetry, whatever the environment says."""

    def __init__(self, autocast: torch.dtype | None, advance: Advance, **options: Any) -> None:
        self.autocast = autocast
        self.advance = advance
        self.tokens = 0
        """Response tokens so far."""
        self.step_tokens = 0
        with products(autocast):  # the reference's log-probabilities are computed here
            super().__init__(**options)

    def _send_telemetry(self) -> None:
        return

    def compute_loss_context_manager(self) -> AbstractContextManager[Any]:
        return products(self.autocast)

    def count_tokens(self, tokens: int) -> None:
        """So many response tokens go into the next optimizer step."""
        self.step_tokens = tokens
        self.tokens += tokens


class StepLines(TrainerCallback):  # type: ignore[misc]
    """Writes `steps.jsonl`, one line an optimizer step: step, loss, learning_rate, grad_norm, forward_tokens (all input
    tokens), what `more` makes of TRL's log, then that log. Keeps the losses."""

    def __init__(self, file: Path, more: Callable[[Mapping[str, float]], dict[str, Any]]) -> None:
        self.file = file
        self.more = more
        self.losses: list[float] = []
        self.forward_tokens = 0
        file.write_text("")

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        if "grad_norm" not in logs:
            return  # the closing summary
        self.losses.append(logs["loss"])
        before, self.forward_tokens = self.forward_tokens, int(logs["num_tokens"])  # TRL counts them over the run
        line = {"step": state.global_step, **{k: logs[k] for k in ("loss", "learning_rate", "grad_norm")}}
        line |= {"forward_tokens": self.forward_tokens - before, **self.more(logs)}
        shown = {*line, "epoch", "num_tokens"}
        line |= {k: v for k, v in logs.items() if k not in shown and math.isfinite(v)}
        with self.file.open("a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def report(self) -> dict[str, Any]:
        """Steps, mean losses of the first and the last quarter of them, and all input tokens of the run."""
        quarter = max(1, len(self.losses) // 4)
        return {
            "steps": len(self.losses),
            "first_loss": fmean(self.losses[:quarter]),
            "last_loss": fmean(self.losses[-quarter:]),
            "forward_tokens": self.forward_tokens,
        }
