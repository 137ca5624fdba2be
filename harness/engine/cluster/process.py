"""What the processes of a run on a cluster have in common: their orders, and what they tell the driver."""

import logging
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from harness.engine.execute import StagePosition, use_threads
from harness.engine.resources import Resources
from harness.engine.stage import Stage
from harness.engine.store import Artifact, Store
from harness.errors import StoreError
from harness.servers.spending import Spending

EVERY = 0.2
"""Seconds between two progress messages."""

Event = tuple[str, str, Any]
"""(kind, the stage's key, payload), by kind: `stage` (node), `waiting` (None), `start` (what, total), `advance`
(items), `spent` (dollars, calls, unpriced calls), `log` (level, message)."""


class Order(NamedTuple):
    """A stage to run. `root`: the store's folder. `environment`: variables of the driver to set. `limit`: dollars that
    its judges may cost. `prices`: the recipe's price table. `threads`: number of threads; None: the default."""

    stage: Stage
    root: Path
    position: StagePosition
    environment: Mapping[str, str]
    limit: float | None
    prices: Path | None
    threads: int | None
    resources: Resources
    workers: int


class Inbox:
    """An actor that holds the workers' events until the driver takes them."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def put(self, events: list[Event]) -> None:
        self._events += events

    def take(self) -> list[Event]:
        events, self._events = self._events, []
        return events


class Messages:
    """A `harness.engine.execute.Reporter` that forwards progress to the inbox, at most a few times per second."""

    def __init__(self, key: str, inbox: Any, spending: Spending) -> None:
        self._key, self._inbox, self._spending = key, inbox, spending
        self._items = 0
        self._last_flush = 0.0

    def start(self, what: str, total: int | None) -> None:
        self.flush()
        self.send("start", (what, total))

    def advance(self, items: int) -> None:
        self._items += items
        if time.monotonic() - self._last_flush >= EVERY:
            self.flush()

    def flush(self) -> None:
        self._last_flush = time.monotonic()
        events: list[Event] = [("spent", self._key, spent(self._spending))] if self._spending.calls else []
        if self._items:
            events.append(("advance", self._key, self._items))
            self._items = 0
        if events:
            self._inbox.put.remote(events)

    def send(self, kind: str, payload: Any) -> None:
        self._inbox.put.remote([(kind, self._key, payload)])

    def stage(self, stage: Stage, number: int, total: int) -> None:
        self.send("stage", platform.node())

    def done(self, stage: Stage, report: dict[str, Any], seconds: float) -> None:
        self.flush()

    def waiting(self, stage: Stage) -> None:
        self.send("waiting", None)


class _Log(logging.Handler):
    """Sends the harness's log records to the driver, which adds them to the run's log."""

    def __init__(self, messages: Messages) -> None:
        super().__init__(logging.INFO)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.send("log", (record.levelno, record.getMessage()))


def spent(spending: Spending) -> tuple[float, int, int]:
    """(dollars, calls, calls of unknown price)."""
    return spending.spent, spending.calls, spending.unpriced


def lost(ray: Any) -> tuple[type[Exception], ...]:
    """What Ray raises for a task or an actor whose process or node is gone."""
    found = ray.exceptions
    return (
        found.WorkerCrashedError,
        found.RayActorError,
        found.NodeDiedError,
        found.OutOfMemoryError,
        found.ObjectLostError,
        found.RaySystemError,
    )


def prepare(order: Order, threads: int | None) -> None:
    """Make this process like the driver. `threads`: of torch; None: its default, if it is imported at all."""
    # Ray sets this to the task's CPUs, before torch is imported; a run in process wouldn't have it.
    os.environ.pop("OMP_NUM_THREADS", None)
    os.environ.update(order.environment)
    if threads is not None or "torch" in sys.modules:  # else it is imported with its default, if it is at all
        use_threads(threads)


@contextmanager
def forwarded(messages: Messages) -> Iterator[None]:
    """While open, the driver gets the harness's log."""
    logger, handler = logging.getLogger("harness"), _Log(messages)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        messages.flush()
        logger.removeHandler(handler)


def inputs_of(stage: Stage, store: Store) -> dict[str, Artifact]:
    """The artifacts that a stage reads. Raises StoreError if this node doesn't see one."""
    inputs = {}
    for role, needed in stage.inputs.items():
        artifact = store.find(needed.key)
        if artifact is None:
            raise StoreError(f"{store.root}: {needed.id} is missing: the store must be visible to all nodes")
        inputs[role] = artifact
    return inputs
