"""One process of an engine: started, watched until it is ready, and ended with all that it has started."""

import contextlib
import http.client
import os
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.children.start import HUB, Process, environment, stop, watched
from harness.children.watch import descendants
from harness.errors import ModelError
from harness.printable import printable
from harness.serving.commands import HEALTH, command_of, variables_of
from harness.serving.engine import Engine
from harness.serving.ports import HOST, free_port, is_of

LOOK = 0.1
"""Seconds between two looks at a server that starts."""
LAST_LINES, LONGEST_LINE = 60, 300
METRICS, TOKENS, MOST_TEXT = "/metrics", "_tokens_total", 4 << 20
TRIES = 3
"""Starts, each on another port, of a replica that finds its port taken by another program."""
_SAYS_WHY = re.compile(r"error|exception|cannot|can't|not found|no module|no such|out of memory|killed", re.IGNORECASE)
_TAKEN = re.compile(r"address already in use|errno 98|port \d+ is (already )?(in use|taken)", re.IGNORECASE)


class Replica:
    """A server on a port of this machine. `log`: the file of its output. `devices`: its GPUs."""

    def __init__(self, engine: Engine, number: int, log: Path, devices: Sequence[int] = ()) -> None:
        self.engine = engine
        self.number = number
        self.log = log
        self.port = 0
        self.is_ready = False
        self.is_gone = False
        """Its server is gone, though parts of it may still end."""
        self._why = ""
        self._devices = devices
        self._process: Process | None = None

    @property
    def address(self) -> str:
        """Its root, without /v1."""
        return f"http://{HOST}:{self.port}"

    @property
    def is_alive(self) -> bool:
        return self._process is not None and not self.is_gone and self._process.poll() is None

    def start(self, is_stopped: Callable[[], bool]) -> None:
        """Start the process, and wait until it answers. Raises ModelError if it ends, isn't ready in time, or
        `is_stopped`; it has ended then."""
        deadline = time.monotonic() + self.engine.seconds
        try:
            for tries_left in reversed(range(TRIES)):
                self._begin()
                if self._becomes_ready(deadline, is_stopped):
                    self.is_ready = True
                    return
                if not tries_left or not _TAKEN.search(self._last_text()):
                    why = f"ended while it started ({self.last_words()}); its log is {self.log}"
                    raise ModelError(f"{self._name}: {why}")
        finally:
            if not self.is_ready:
                self.stop()

    def stop(self) -> None:
        """End it, with all that it has started."""
        self.is_ready = False
        if self._process is not None:
            stop(self._process)

    def kill(self, why: str) -> None:
        """End it at once: it answers nobody, for this reason. Calls that wait for it break."""
        self.is_gone, self._why = True, why
        for process in descendants(self._process.pid) if self._process else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def says_ready(self) -> bool:
        """Whether it says that it is ready, within a few seconds."""
        statuses = (self._get(path)[0] for path in HEALTH)
        return next((status for status in statuses if status not in (404, 405)), 0) == 200

    def counted(self) -> list[str]:
        """The tokens that it has read and written so far, as its page of metrics has them; empty if it has none."""
        status, text = self._get(METRICS)
        return [line for line in text.splitlines() if TOKENS in line and not line.startswith("#")] * (status == 200)

    def last_words(self) -> str:
        """Why it was killed, or the line of its log that most likely says what is wrong."""
        if self._why:
            return self._why
        lines = [line.strip() for line in self._last_text().splitlines() if line.strip()]
        telling = [line for line in lines if _SAYS_WHY.search(line)]
        return printable((telling or lines or ["without a word"])[-1], LONGEST_LINE)

    @property
    def _name(self) -> str:
        return f"engine {self.engine.name} of {self.engine.served_name or self.engine.command[0]}"

    def _begin(self) -> None:
        if self._process is not None:
            stop(self._process)  # what is left of it
        self.port, self.is_gone, self._why = free_port(), False, ""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = command_of(self.engine, self.port)
        variables = {**environment(HUB), **variables_of(self.engine, self._devices)}
        variables.pop("PYTHONPATH", None)  # its environment is another one
        with self.log.open("a", encoding="utf-8") as out:
            out.write(f"$ {' '.join(command)}\n")
            out.flush()
            self._process = watched(command, out, variables, output=out)

    def _becomes_ready(self, deadline: float, is_stopped: Callable[[], bool]) -> bool:
        """Whether it is ready in the end, or has ended."""
        while not self._answers():
            if is_stopped():
                raise ModelError(f"{self._name}: stopped while it started")
            if not self.is_alive:
                return False
            if time.monotonic() > deadline:
                limit = f"{self.engine.seconds:g} s"
                raise ModelError(
                    f"{self._name}: not ready within {limit} ({self.last_words()}); raise `seconds`, or see {self.log}"
                )
            time.sleep(LOOK)
        return True

    def _answers(self) -> bool:
        """Whether it is ready, and it is the one that says so."""
        if not self.says_ready() or self._process is None:
            return False
        return self.is_alive and is_of(self._process.pid, self.port)

    def _get(self, path: str) -> tuple[int, str]:
        """(the status of the answer to a GET, its text); 0 if there is none."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=min(5.0, self.engine.silence))
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read(MOST_TEXT).decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def _last_text(self) -> str:
        """The end of its log, since its last start."""
        try:
            with self.log.open(encoding="utf-8", errors="replace") as file:
                text = "".join(deque(file, LAST_LINES))
        except OSError:
            return ""
        start = text.rfind("\n$ ") + 1 if "\n$ " in text else 0
        return text[start:].partition("\n")[2] if text[start:].startswith("$ ") else text
