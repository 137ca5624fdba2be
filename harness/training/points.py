"""The checkpoints on the way of a training that are evaluated: when each is written, and how far it had come."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainerCallback

from harness.errors import StoreError
from harness.models.checkpoints.adapters import name_base
from harness.models.checkpoints.folder import is_adapter
from harness.recipe.policy import Policy
from harness.recipe.training import Point
from harness.training.checkpoint import CHECKPOINT, POINTS, TRAINED

Save = Callable[[Path], None]
"""Writes the policy as it is now into a folder; called in all processes of a training."""


class WritePoints(TrainerCallback):  # type: ignore[misc]
    """Writes each checkpoint into `folder` when its step is done. `first`: whether this process writes. A training that
    resumes writes again those whose steps it does again, and they are the same."""

    def __init__(self, points: Sequence[Point], folder: Path, save: Save, *, first: bool) -> None:
        self._points, self._folder, self._save, self._first = points, folder, save, first

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Raises StoreError if a resumed training is beyond a checkpoint that isn't there."""
        for point in self._points:
            path = self._folder / POINTS / point.name
            if point.step_of(state.max_steps) <= state.global_step and not path.is_dir():
                raise StoreError(
                    f"{path}: missing, though the training is beyond its step; remove {self._folder} to train again"
                )

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        for point in self._points:
            if point.step_of(state.max_steps) == state.global_step:
                was_training = model.training  # it is saved in evaluation mode
                write_point(point, self._folder, self._save, first=self._first)
                model.train(was_training)


def write_point(point: Point, folder: Path, save: Save, *, first: bool) -> None:
    """Write a checkpoint, which is there completely or not at all. No random number of the training is used up."""
    target, unfinished = folder / POINTS / point.name, folder / POINTS / f"{point.name}.unfinished"
    if first:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        save(unfinished)
    if first:
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
    PartialState().wait_for_everyone()  # the others look whether it is there


def finish_points(points: Sequence[Point], work: Path, folder: Path, save: Save, start: Policy, *, first: bool) -> None:
    """Bring the checkpoints into the training's artifact. Those that a training which stopped early has not come to are
    its last policy. `start`: what training started from, which adapters name."""
    for point in points:
        if not (work / POINTS / point.name).is_dir():
            write_point(point, work, save, first=first)
    if first and points and work != folder:
        # A copy: until the artifact is published, a killed run resumes from the original.
        for point in points:
            target = folder / POINTS / point.name
            shutil.copytree(work / POINTS / point.name, target)
            for made in (target / CHECKPOINT, target / TRAINED):
                if is_adapter(made):
                    name_base(made, start.model, start.revision)


def points_report(points: Sequence[Point], lines: Sequence[Mapping[str, Any]], total: int) -> dict[str, Any]:
    """How far the training had come at each checkpoint, for its report, by name: steps, and what they used. `lines`:
    those of steps.jsonl; `total`: the steps that were to be done."""
    report: dict[str, dict[str, Any]] = {}
    for point in points:
        done = [line for line in lines if line["step"] <= point.step_of(total)]
        used = {"steps": len(done)}
        for name, column in (("tokens", "tokens"), ("forward_tokens", "forward_tokens"), ("prompts_seen", "prompts")):
            if all(column in line for line in done):
                used[name] = sum(line[column] for line in done)
        report[point.name] = used
    return {"checkpoints": report} if report else {}
