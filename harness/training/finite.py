"""Stops a training before a step that is no number: the weights that it had are kept."""

from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback


class NotFinite(Exception):
    """A step whose gradient is no number. It is raised before the optimizer moves, so that the weights are good."""


class StopAtNoNumber(TrainerCallback):  # type: ignore[misc]
    """Raises NotFinite in all processes at the same step. The trainer's `trouble` says what is known of the cause."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        gradients = [p.grad for p in given["model"].parameters() if p.grad is not None]
        # One pass over the gradients: their norm is no number where one of them isn't.
        bad = int(not torch.nn.utils.get_total_norm(gradients).isfinite()) if gradients else 0
        count = torch.tensor(bad, device=args.device)
        if int(self._trainer.accelerator.reduce(count, "sum")):
            said = [text for text in gather_object([getattr(self._trainer, "trouble", "")]) if text]
            why = said[0] if said else "the gradient is not finite"
            raise NotFinite(f"training step {state.global_step + 1}: {why}")
