"""A training run as a piece of work that can be handed to other processes: `python -m harness.training.job FOLDER`.

The folder's `job.json` says what to train. The first process writes what `train_policy` writes, and `report.json`; a
HarnessError goes into `error.json`. Progress comes as lines on standard output, `advance N`.
"""

import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import errors
from harness.components import build
from harness.errors import HarnessError, ModelError
from harness.protocols import Loss
from harness.recipe import Accelerate, Policy, Training
from harness.store import write_json
from harness.training.budget import Budget
from harness.types import Advance, RankedExample, Record

_log = logging.getLogger(__name__)


class TrainingJob(Record):
    """What `train_policy` is given, as data; see there. `loss`: the component's fields. `examples`: a JSONL file of
    RankedExample; `reference`: a JSON file. `logs`: where TensorBoard writes. `rows`: what curves are named by."""

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
        """Train in this process, or as one of several that were started for it; the report."""
        from harness.training.trainer import train_policy

        lines = self.examples.read_text(encoding="utf-8").split("\n")
        loss: Loss = build("loss", self.loss)  # type: ignore[assignment]
        with _environment(TENSORBOARD_LOGGING_DIR=str(self.logs)):
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
        gc.collect()  # the trainer and its model hold each other: the next stage may need the memory
        return report

    def launch(self, accelerate: Accelerate, advance: Advance) -> dict[str, Any]:
        """Train in processes that `accelerate launch` starts; the report. Raises what the first process raised, or
        ModelError with its last words."""
        self.partial_folder.mkdir(parents=True, exist_ok=True)
        handed = self.partial_folder / "job.json"
        handed.write_text(self.model_dump_json())
        for left in ("report.json", "error.json"):
            (self.partial_folder / left).unlink(missing_ok=True)
        said = self.partial_folder / "launch.log"
        with said.open("w") as log:
            process = subprocess.Popen(
                _command(accelerate, self.partial_folder),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1"},
                start_new_session=True,
            )
            try:
                for line in process.stdout or ():
                    if line.startswith("advance "):
                        advance(int(line.split()[1]))
                status = process.wait()
            finally:
                _end(process)
        return self._outcome(status, said)

    def _outcome(self, status: int, said: Path) -> dict[str, Any]:
        words = said.read_text(errors="replace")
        _log.info("accelerate launch ended with %d and said:\n%s", status, words)
        error = self.partial_folder / "error.json"
        if error.exists():
            found = json.loads(error.read_text())
            raise getattr(errors, found["kind"])(found["message"])
        report = self.partial_folder / "report.json"
        if status or not report.exists():
            last = next((line for line in reversed(words.splitlines()) if "Error" in line), "no error was named")
            raise ModelError(f"accelerate launch failed (exit code {status}): {last.strip()}; the run's log has it all")
        done: dict[str, Any] = json.loads(report.read_text())
        for sign in [*done["warnings"], *([done["stopped"]] if "stopped" in done else [])]:
            _log.warning("%s", sign)  # as a run in this process says it
        return done


def _command(accelerate: Accelerate, folder: Path) -> list[str]:
    """`accelerate launch` for one machine. Port 0: a free one. Without a configuration, DDP over the processes asked
    for (`--multi_gpu` is what starts several; on a machine without any they run on its CPU, over gloo)."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
    if accelerate.config:
        command += ["--config_file", str(accelerate.config)]
    elif (accelerate.num_processes or 1) > 1:
        command += ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    if accelerate.num_processes:
        command += ["--num_processes", str(accelerate.num_processes)]
    return [*command, "-m", "harness.training.job", str(folder)]


def _end(process: "subprocess.Popen[str]") -> None:
    """Stop the launcher and what it started, where this process is interrupted."""
    if process.poll() is None:
        process.terminate()  # the launcher passes it on
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _take_own_device() -> None:
    """Each process of a machine has an accelerator of its own: what is loaded goes there from the start."""
    import torch

    if torch.accelerator.is_available():
        torch.accelerator.set_device_index(int(os.environ.get("LOCAL_RANK", "0")))


def main(folder: Path) -> None:
    """One of the processes of a launched job."""
    first = os.environ.get("RANK", "0") == "0"
    _take_own_device()
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
