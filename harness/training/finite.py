"""Stops a training before a non-finite optimizer step, and so keeps the last good weights."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback


class NotFinite(Exception):
    """A step whose gradient is not finite. Raised before the optimizer moves, so the weights are still good."""


class StopIfNotFinite(TrainerCallback):  # type: ignore[misc]
    """Raises NotFinite in all processes at the same step. `cause`: what this process knows about the cause; empty if
    nothing."""

    def __init__(self, trainer: Any, cause: Callable[[], str] = lambda: "") -> None:
        self._trainer = trainer
        self._cause = cause

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        gradients = [p.grad for p in options["model"].parameters() if p.grad is not None]
        # One pass over the gradients: their norm is not finite if one of them isn't.
        bad = int(not torch.nn.utils.get_total_norm(gradients).isfinite()) if gradients else 0
        count = torch.tensor(bad, device=args.device)
        if int(self._trainer.accelerator.reduce(count, "sum")):
            causes = [text for text in gather_object([self._cause()]) if text]
            why = causes[0] if causes else "the gradient is not finite"
            raise NotFinite(f"training step {state.global_step + 1}: {why}")
