"""What runs of TRL's trainers share: arguments equal to those of the harness's own trainer, and the log of steps."""

import json
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import TrainerCallback

from harness.models.load import device
from harness.models.schedule import WarmUp
from harness.recipe.training import Training
from harness.trackers.curves import curves
from harness.training.finite import NotFinite, StopIfNotFinite
from harness.training.policy import uncast_adapter_inputs
from harness.types import Advance


def micro_batch_of(training: Training, micro_batch_size: int) -> int:
    """Rows per forward: the largest divisor of the batch size that is at most `micro_batch_size`."""
    return max(m for m in range(1, min(micro_batch_size, training.batch_size) + 1) if training.batch_size % m == 0)


def run_arguments(training: Training, *, folder: Path, seed: int, micro: int) -> dict[str, Any]:
    """Arguments of a TRL configuration (DPOConfig, SFTConfig) where its defaults differ from the harness's own trainer:
    no half precision of its own, no saved checkpoints, no truncation, no progress bar."""
    on_cpu = device().type == "cpu"
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
        "max_length": None,  # rows are truncated already
        "bf16": False,  # `autocasting` does it, as in the harness's own trainer
        "seed": seed,
        "data_seed": seed,
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "use_cache": True,  # Trainer writes this into the saved configuration; no forward here uses a cache
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",  # `curves` adds the recipe's trackers
        "disable_tqdm": True,
    }


def one_device(arguments: Any) -> Any:
    """Restrict to one accelerator, as the harness's trainer does: TRL refuses nn.DataParallel."""
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def float32_adapters(model: torch.nn.Module) -> None:
    """Cast the trained weights to float32, as in the harness's own trainer. On a quantised base TRL makes them
    bfloat16, which loses updates as small as those of preference training."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


REMEDY = "lower learning_rate or max_grad_norm, or use a wider dtype"
"""What to do about a gradient that is not finite."""


def train_while_finite(trainer: Any) -> str | None:
    """Train. Returns why training stopped before a non-finite step, or None; the weights before that step are kept."""
    trainer.add_callback(StopIfNotFinite(trainer))
    try:
        with uncast_adapter_inputs(trainer.model, trainer.autocast), curves() as callbacks:
            for callback in callbacks:
                trainer.add_callback(callback)
            trainer.train()
    except NotFinite as error:
        return str(error)
    return None


def autocasting(dtype: torch.dtype | None) -> torch.autocast:
    """While open, matrix products are in `dtype`; for None, in the dtype of the weights."""
    return torch.autocast(device().type, dtype, enabled=dtype is not None)


class TrainerMixin(WarmUp):
    """How our subclasses of TRL's trainers differ from them: they autocast as the harness's own trainer does, from the
    first forward on, and send no telemetry, whatever the environment says."""

    def __init__(self, autocast: torch.dtype | None, advance: Advance, **options: Any) -> None:
        self.autocast = autocast
        self.advance = advance
        self.tokens = 0
        """Response tokens so far."""
        self.step_tokens = 0
        with autocasting(autocast):  # the reference's log-probabilities are computed here
            super().__init__(**options)

    def _send_telemetry(self) -> None:
        return

    def compute_loss_context_manager(self) -> AbstractContextManager[Any]:
        return autocasting(self.autocast)

    def count_tokens(self, tokens: int) -> None:
        """Note the number of response tokens in the next optimizer step."""
        self.step_tokens = tokens
        self.tokens += tokens


class StepLines(TrainerCallback):  # type: ignore[misc]
    """Writes `steps.jsonl`, one line per optimizer step: step, loss, learning_rate, grad_norm, forward_tokens (all
    input tokens), the fields that `more` derives from TRL's log, then that log. Keeps the losses in memory."""

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
        before, self.forward_tokens = self.forward_tokens, int(logs["num_tokens"])  # TRL's count is cumulative
        line = {"step": state.global_step, **{k: logs[k] for k in ("loss", "learning_rate", "grad_norm")}}
        line |= {"forward_tokens": self.forward_tokens - before, **self.more(logs)}
        skipped = {*line, "epoch", "num_tokens"}
        line |= {k: v for k, v in logs.items() if k not in skipped and math.isfinite(v)}
        with self.file.open("a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def report(self) -> dict[str, Any]:
        """The number of steps, the mean losses of the first and the last quarter, and all input tokens of the run."""
        quarter = max(1, len(self.losses) // 4)
        return {
            "steps": len(self.losses),
            "first_loss": fmean(self.losses[:quarter]),
            "last_loss": fmean(self.losses[-quarter:]),
            "forward_tokens": self.forward_tokens,
        }
