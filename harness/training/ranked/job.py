"""A training as a job that several processes can run (see `harness.training.processes`)."""

import json
import logging
from pathlib import Path
from typing import Any

from harness.children.start import HUB
from harness.components import build
from harness.models.load import Dtype
from harness.protocols import Keep, Loss
from harness.recipe.launch import Accelerate
from harness.recipe.policy import Policy
from harness.recipe.training import Point, Training
from harness.trackers.tracked import TrackedRun, tracking
from harness.training.budget import Budget
from harness.training.memory import give_back
from harness.training.processes import Job, run_job
from harness.types import Advance, RankedExample

_log = logging.getLogger(__name__)

TRACKERS = ("WANDB_", "TRACKIO_", "MLFLOW_", "DATABRICKS_", "AWS_", "AZURE_", "GOOGLE_")
"""How the variables with secrets of experiment trackers begin, and of the storage that they write to."""


class TrainingJob(Job):
    """The arguments of `train_policy` as data; see there. `loss`: the component's fields. `examples`: a JSONL file of
    RankedExample; `reference`: a JSON file. `adapter`: as in `load_policy`. `tracked`: the run of trackers."""

    policy: Policy
    loss: dict[str, Any]
    training: Training
    seed: int
    micro_batch_size: int
    bounded_memory: bool
    budget: Budget | None
    examples: Path
    reference: Path
    folder: Path
    partial_folder: Path
    dtype: Dtype
    points: tuple[Point, ...] = ()
    adapter: Path | None = None
    tracked: TrackedRun | None = None

    def run(self, advance: Advance, keep: Keep = lambda rows: None) -> dict[str, Any]:
        """Train in this process, alone or as one of several launched ones; returns the report."""
        from harness.training.ranked.trainer import train_policy
        from harness.training.sharding import connect, is_sharded

        if is_sharded():
            connect()
        lines = self.examples.read_text(encoding="utf-8").split("\n")
        loss: Loss = build("loss", self.loss)  # type: ignore[assignment]
        with tracking(self.tracked):
            report = train_policy(
                self.policy,
                [RankedExample.model_validate_json(line) for line in lines if line],
                json.loads(self.reference.read_text()),
                loss,
                self.training,
                folder=self.folder,
                seed=self.seed,
                micro_batch_size=self.micro_batch_size,
                advance=advance,
                partial_folder=self.partial_folder,
                bounded_memory=self.bounded_memory,
                budget=self.budget,
                dtype=self.dtype,
                points=self.points,
                adapter=self.adapter,
            )
        give_back()  # the trainer and its model form a cycle, and the next stage may need the memory
        return report

    def launch(self, accelerate: Accelerate, advance: Advance) -> dict[str, Any]:
        """Train in processes started by `accelerate launch`; returns the report. Raises what `run_job` raises."""
        needs = (*HUB, *TRACKERS) if self.tracked else HUB
        report: dict[str, Any] = run_job(self, accelerate, self.partial_folder, advance, needs=needs)
        for sign in [*report["warnings"], *([report["stopped"]] if "stopped" in report else [])]:
            _log.warning("%s", sign)  # as a run in this process does
        return report
