"""The learning rate's schedule, the same in every training: that of transformers, with a warm-up that never is 0."""

from collections.abc import Callable
from typing import Any


class WarmUp:
    """For subclasses of transformers' Trainer. In step k (from 0) of W steps of warm-up the learning rate is
    (k + 1) / (W + 1) of the full one. transformers has k / W: the first step is spent at rate 0, which is all that a
    run of one step does. From step W on, the two are the same."""

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of a training of so many steps, which is also set as the trainer's."""
        from torch.optim.lr_scheduler import LambdaLR

        trainer: Any = self
        if trainer.lr_scheduler is None:
            usual = super().create_scheduler(num_training_steps, optimizer)  # type: ignore[misc]
            steps = trainer.args.get_warmup_steps(num_training_steps)
            trainer.lr_scheduler = LambdaLR(usual.optimizer, [_warmed_up(rate, steps) for rate in usual.lr_lambdas])
        return trainer.lr_scheduler


def _warmed_up(rate: Callable[[int], float], steps: int) -> Callable[[int], float]:
    return lambda step: (step + 1) / (steps + 1) if step < steps else rate(step)
