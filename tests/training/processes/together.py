"""Processes that stay, and run one job after the other: starting them takes ten times as long as a tiny job does.

They are started as always, by `run_job` and `accelerate launch`, for a job that waits for jobs. Between two of these
nothing is kept but the connection of the processes: accelerate's state and the environment are those of new ones.
"""

import itertools
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from harness.errors import HarnessError, error_class
from harness.protocols import Keep
from harness.recipe.launch import Accelerate
from harness.training.processes import Job, run_job
from harness.types import Advance

_log = logging.getLogger("harness.training.processes")
DONE = -1
"""What a process reports as its progress when it is done with a job."""


class Waiting(Job):
    """Runs the jobs in `folder`, `0.json` and so on, until one of them is null."""

    folder: Path

    def run(self, advance: Advance, keep: Keep = lambda rows: None) -> None:
        from accelerate.state import AcceleratorState, GradientState

        environment = dict(os.environ)
        for number in itertools.count():
            if (written := json.loads(self._text(number))) is None:
                return
            os.environ |= written["environment"]
            job = resolve_name(written["kind"]).model_validate(written["fields"])
            try:
                report = {"report": job.run(advance, keep)}
            except HarnessError as error:  # which all of them raise
                report = {"error": [type(error).__name__, str(error)]}
            os.environ.clear()
            os.environ |= environment
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()
            if os.environ["RANK"] == "0":
                write(self.folder / f"report-{number}.json", report)
            advance(DONE)

    def _text(self, number: int) -> str:
        path = self.folder / f"{number}.json"
        while not path.exists():
            time.sleep(0.05)
        return path.read_text()


def write(path: Path, value: Any) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value))
    new.rename(path)


class Together:
    """Running processes."""

    def __init__(self, accelerate: Accelerate, folder: Path) -> None:
        self._processes, self._folder = accelerate.processes, folder
        self._numbers, self._seen = itertools.count(), 0
        self._events: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._thread = Thread(target=self._run, args=(accelerate,), daemon=True)
        self._thread.start()

    def _run(self, accelerate: Accelerate) -> None:
        def said(kind: str) -> Callable[[Any], None]:
            return lambda what: self._events.put((kind, what))

        run_job(Waiting(folder=self._folder), accelerate, self._folder, said("advance"), said("keep"))

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def run(self, job: Job, advance: Advance, keep: Keep) -> Any:
        """As `run_job`, whose log of the processes' output this also writes."""
        number, cls = next(self._numbers), type(job)
        environment = {"HARNESS_HOME": os.environ["HARNESS_HOME"]}
        what = {"kind": f"{cls.__module__}:{cls.__qualname__}", "fields": job.model_dump(mode="json")}
        write(self._folder / f"{number}.json", what | {"environment": environment})
        at_work = self._processes
        while at_work:
            try:
                event, value = self._events.get(timeout=1)
            except Empty:
                assert self.running, (self._folder / "launch.log").read_text()[-4000:]
                continue
            if event == "keep":
                keep(value)
            elif value == DONE:
                at_work -= 1
            else:
                advance(value)
        log = (self._folder / "launch.log").read_bytes()
        _log.info("%s", log[self._seen :].decode(errors="replace"))
        self._seen = len(log)
        report = json.loads((self._folder / f"report-{number}.json").read_text())
        if "error" in report:
            kind, message = report["error"]
            raise error_class(kind)(message)
        return report["report"]

    def end(self) -> None:
        write(self._folder / f"{next(self._numbers)}.json", None)
        self._thread.join(60)
        assert not self.running
