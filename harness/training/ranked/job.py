"""A training run that other processes can execute: `python -m harness.training.ranked.job FOLDER`.

The folder's `job.json` says what to train. The first process writes what `train_policy` writes, and `report.json`; a
HarnessError is written to `error.json`. Progress is reported as lines `advance N` on standard output.
"""

import gc
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from harness.children.start import HUB, start, stop
from harness.components import build
from harness.engine.store import write_json
from harness.errors import HarnessError, ModelError, error_class
from harness.protocols import Loss
from harness.recipe.launch import Accelerate
from harness.recipe.recipe import Policy
from harness.recipe.training import Training
from harness.training.budget import Budget
from harness.training.curves import tensorboard_in
from harness.types import Advance, RankedExample, Record

_log = logging.getLogger(__name__)

LOGGERS = ("WANDB_", "COMET_", "MLFLOW_", "NEPTUNE_", "CLEARML_", "SWANLAB_", "DAGSHUB_", "AWS_", "AZURE_", "GOOGLE_")
"""How the variables with secrets of curve loggers begin, and of the storage that they write to."""


class TrainingJob(Record):
    """The arguments of `train_policy` as data; see there. `loss`: the component's fields. `examples`: a JSONL file of
    RankedExample; `reference`: a JSON file. `logs`: the folder that TensorBoard writes to."""

    policy: Policy
    loss: dict[str, Any]
    training: Training
    seed: int
    micro_batch_size: int
    bounded_memory: bool
    report_to: tuple[str, ...]
    budget: Budget | None
    examples: Path
    reference: Path
    folder: Path
    partial_folder: Path
    logs: Path

    def run(self, advance: Advance) -> dict[str, Any]:
        """Train in this process, alone or as one of several launched ones; returns the report."""
        from harness.training.ranked.trainer import train_policy

        lines = self.examples.read_text(encoding="utf-8").split("\n")
        loss: Loss = build("loss", self.loss)  # type: ignore[assignment]
        with tensorboard_in(self.logs):
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
                report_to=self.report_to,
                budget=self.budget,
            )
        gc.collect()  # the trainer and its model form a cycle, and the next stage may need the memory
        return report

    def launch(self, accelerate: Accelerate, advance: Advance) -> dict[str, Any]:
        """Train in processes started by `accelerate launch`; returns the report. Raises the first process's error, or
        ModelError with the last error line of its log."""
        self.partial_folder.mkdir(parents=True, exist_ok=True)
        (self.partial_folder / "job.json").write_text(self.model_dump_json())
        for stale in ("report.json", "error.json"):
            (self.partial_folder / stale).unlink(missing_ok=True)
        log_path = self.partial_folder / "launch.log"
        with log_path.open("w") as log:
            needs = (*HUB, *LOGGERS) if self.report_to else HUB
            process = start(_command(accelerate, self.partial_folder), log, needs)
            try:
                for line in process.stdout or ():
                    if line.startswith("advance "):
                        advance(int(line.split()[1]))
                status = process.wait()
            finally:
                stop(process)
        return self._result(status, log_path)

    def _result(self, status: int, log_path: Path) -> dict[str, Any]:
        output = log_path.read_text(errors="replace")
        _log.info("accelerate launch exited with %d; its output:\n%s", status, output)
        error_path = self.partial_folder / "error.json"
        if error_path.exists():
            error = json.loads(error_path.read_text())
            raise error_class(error["kind"])(error["message"])
        report_path = self.partial_folder / "report.json"
        if status or not report_path.exists():
            last = next(
                (line for line in reversed(output.splitlines()) if "Error" in line), "no error line in its output"
            )
            raise ModelError(f"accelerate launch failed (exit code {status}): {last.strip()}; see the run's log")
        report: dict[str, Any] = json.loads(report_path.read_text())
        for sign in [*report["warnings"], *([report["stopped"]] if "stopped" in report else [])]:
            _log.warning("%s", sign)  # as a run in this process does
        return report


def _command(accelerate: Accelerate, folder: Path) -> list[str]:
    """`accelerate launch` for one machine. Port 0: any free port. Without a configuration: DDP over `num_processes`
    (`--multi_gpu` starts several processes; without GPUs they run on the CPU, over gloo)."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
    if accelerate.config:
        command += ["--config_file", str(accelerate.config)]
    elif (accelerate.num_processes or 1) > 1:
        command += ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    if accelerate.num_processes:
        command += ["--num_processes", str(accelerate.num_processes)]
    return [*command, "-m", "harness.training.ranked.job", str(folder)]


def _select_device() -> None:
    """Each process of a machine uses its own accelerator: models are loaded there from the start."""
    import torch

    if torch.accelerator.is_available():
        torch.accelerator.set_device_index(int(os.environ.get("LOCAL_RANK", "0")))


def main(folder: Path) -> None:
    """Run one of the processes of a launched job."""
    first = os.environ.get("RANK", "0") == "0"
    _select_device()
    logging.basicConfig(level=logging.INFO if first else logging.WARNING, stream=sys.stderr)
    job = TrainingJob.model_validate_json((folder / "job.json").read_text())

    def advance(items: int) -> None:
        if first:
            print("advance", items, flush=True)

    try:
        report = job.run(advance)
    except HarnessError as error:
        write_json(folder / "error.json", {"kind": type(error).__name__, "message": str(error)})
        sys.exit(2)
    if first:
        write_json(folder / "report.json", report)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
