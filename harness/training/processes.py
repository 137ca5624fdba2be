"""A job that several processes run together: `python -m harness.training.processes FOLDER`, started by accelerate.

The folder's `job.json` says what to run. All processes run the same code; the first one writes the result to
`report.json`; a HarnessError, or that memory ran out, is written to `error.json`. Progress is reported on standard
output, in short lines that the processes don't mix: `advance N`, `keep [[row, score], ...]` for a batch's results, and
`warn TEXT` for what the user should see of experiment trackers.
"""

import json
import logging
import os
import sys
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import IO, Any

from harness.children.start import HUB, start, stop
from harness.engine.store import write_json
from harness.errors import HarnessError, ModelError, error_class
from harness.protocols import Keep
from harness.recipe.launch import Accelerate
from harness.types import Advance, Record

_log = logging.getLogger(__name__)

LINE = 64
"""Rows in a line of results: lines of up to 4,096 bytes are written to a pipe as a whole."""


class Job(Record):
    """What processes run together. Its fields are written as JSON."""

    @abstractmethod
    def run(self, advance: Advance, keep: Keep = lambda rows: None) -> Any:
        """Run in this process, alone or as one of several launched ones. The first one's result is the job's, as
        JSON-able data. Each reports the progress of its own part."""


def run_job(
    job: Job,
    accelerate: Accelerate,
    folder: Path,
    advance: Advance,
    keep: Keep = lambda rows: None,
    needs: Sequence[str] = HUB,
) -> Any:
    """Run a job in processes started by `accelerate launch`; returns its result. They end with this process. `folder`:
    for the files by which the processes talk. `needs`: how the variables with secrets that they need begin. Raises the
    processes' own error, MemoryError, or ModelError with the last error line of their log."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = type(job)
    fields = job.model_dump(mode="json")
    (folder / "job.json").write_text(json.dumps({"kind": f"{kind.__module__}:{kind.__qualname__}", "fields": fields}))
    for stale in ("report.json", "error.json"):
        (folder / stale).unlink(missing_ok=True)
    _free_memory()
    log_path = folder / "launch.log"
    with log_path.open("w") as log:
        process = start(_command(accelerate, folder), log, needs)
        try:
            _follow(process.stdout, advance, keep)
            status = process.wait()
        finally:
            stop(process)
    return _result(folder, status, log_path)


def _free_memory() -> None:
    """Give up what this process's models have left on the accelerators that the processes will use."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()  # nothing without CUDA


def _follow(lines: IO[str] | None, advance: Advance, keep: Keep) -> None:
    for line in lines or ():
        word, _, rest = line.partition(" ")
        if word == "advance":
            advance(int(rest))
        elif word == "keep":
            keep([(row, score) for row, score in json.loads(rest)])
        elif word == "warn":
            _log.warning("%s", rest.rstrip())


def _result(folder: Path, status: int, log_path: Path) -> Any:
    output = log_path.read_text(errors="replace")
    _log.info("accelerate launch exited with %d; its output:\n%s", status, output)
    error_path, report_path = folder / "error.json", folder / "report.json"
    if error_path.exists():
        error = json.loads(error_path.read_text())
        if error["kind"] == "MemoryError":
            raise MemoryError(error["message"])
        raise error_class(error["kind"])(error["message"])
    if status or not report_path.exists():
        if "exitcode  : -9" in output:
            raise MemoryError("a process was killed, most often because the machine's memory ran out")
        errors = [line.strip() for line in output.splitlines() if "Error" in line and "ChildFailedError" not in line]
        last = errors[-1] if errors else "no error line in its output"
        raise ModelError(f"accelerate launch failed (exit code {status}): {last}; see the run's log")
    return json.loads(report_path.read_text())


def _command(accelerate: Accelerate, folder: Path) -> list[str]:
    """`accelerate launch` for one machine. Port 0: any free port. Without a configuration: DDP over `num_processes`
    (`--multi_gpu` starts several processes; without GPUs they run on the CPU, over gloo). They share the threads."""
    import torch

    command = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
    if accelerate.config:
        command += ["--config_file", str(accelerate.config)]
    elif (accelerate.num_processes or 1) > 1:
        command += ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--num_processes", str(accelerate.processes)]
    if "num_cpu_threads_per_process" not in accelerate.fields:
        command += ["--num_cpu_threads_per_process", str(max(1, torch.get_num_threads() // accelerate.processes))]
    return [*command, "-m", "harness.training.processes", str(folder)]


def _select_device() -> None:
    """Each process of a machine uses its own accelerator: models are loaded there from the start. Raises ModelError."""
    import torch

    if torch.accelerator.is_available():
        place, count = int(os.environ.get("LOCAL_RANK", "0")), torch.accelerator.device_count()
        if place >= count:
            processes = os.environ.get("WORLD_SIZE", f"{place + 1}")
            raise ModelError(
                f"runtime.launch starts {processes} processes, and this machine has {count} accelerators; expected one "
                "for each: lower num_processes"
            )
        torch.accelerator.set_device_index(place)


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def _keep(rows: Sequence[tuple[int, float | None]]) -> None:
    for first in range(0, len(rows), LINE):
        _say(f"keep {json.dumps(rows[first : first + LINE])}")


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _say(f"warn {' '.join(record.getMessage().split())[:1000]}")


def main(folder: Path) -> None:
    """Run one of the processes of a job."""
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if first else logging.WARNING, stream=sys.stderr)
    logging.getLogger("harness.trackers").addHandler(_Warnings(logging.WARNING))
    try:
        _select_device()
        written = json.loads((folder / "job.json").read_text())
        job: Job = resolve_name(written["kind"]).model_validate(written["fields"])
        report = job.run(lambda items: _say(f"advance {items}"), _keep)
    except (HarnessError, MemoryError, RuntimeError) as error:
        from harness.models.batching import is_out_of_memory

        kind = "MemoryError" if is_out_of_memory(error) else type(error).__name__
        if kind != "MemoryError" and not isinstance(error, HarnessError):
            raise
        write_json(folder / "error.json", {"kind": kind, "message": str(error)})
        sys.exit(2)
    if first:
        (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
