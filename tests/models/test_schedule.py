"""The learning rate's schedule: that of transformers, but for the warm-up."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from harness.models.schedule import WarmUp


class Ours(WarmUp, Trainer):
    pass


def rates(trainer: type[Trainer], folder: Path, kind: str, ratio: float, steps: int) -> list[float]:
    """The learning rate of each step, as a share of the full one."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        learning_rate=3e-5,
        lr_scheduler_type=kind,
        warmup_steps=ratio,
        use_cpu=True,
        report_to="none",
    )
    run: Any = trainer(model=torch.nn.Linear(2, 2), args=arguments)
    run.create_optimizer_and_scheduler(steps)
    taken = []
    for _ in range(steps):
        taken.append(run.optimizer.param_groups[0]["lr"] / 3e-5)
        run.optimizer.step()
        run.lr_scheduler.step()
    return taken


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant_with_warmup"])
@pytest.mark.parametrize(
    ("steps", "ratio", "warmup"),
    [(1, 0.0, 0), (1, 0.1, 1), (1, 0.99, 1), (2, 0.1, 1), (2, 0.99, 2), (3, 0.5, 2), (20, 0.1, 2), (20, 0.97, 20)],
)
def test_no_step_has_rate_0_and_the_decay_is_the_usual_one(
    kind: str, steps: int, ratio: float, warmup: int, tmp_path: Path
) -> None:
    ours, usual = (rates(trainer, tmp_path, kind, ratio, steps) for trainer in (Ours, Trainer))
    assert math.ceil(steps * ratio) == warmup
    assert min(ours) > 0
    assert ours[:warmup] == pytest.approx([(k + 1) / (warmup + 1) for k in range(warmup)])
    assert ours[warmup:] == pytest.approx(usual[warmup:])
    assert (usual[0] == 0) == (warmup > 0)
