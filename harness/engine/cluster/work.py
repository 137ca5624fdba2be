"""The task of a Ray worker: runs one stage on the shared store and reports its progress."""

import logging
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.engine.execute import StagePosition, run_stage, use_threads
from harness.engine.stage import Stage
from harness.engine.store import Store
from harness.errors import HarnessError, error_class
from harness.servers.spending import Spending
from harness.serving.pool import stop_all

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


class StageOutcome(NamedTuple):
    """The outcome of a stage. `spent`: see `spent`. `error`: class name and text of an error meant for the user."""

    ran: bool
    report: dict[str, Any]
    seconds: float
    spent: tuple[float, int, int]
    error: tuple[str, str] | None = None

    def raised(self) -> HarnessError | None:
        """The error as it would have been raised in process; None if there was none."""
        if self.error is None:
            return None
        name, text = self.error
        return error_class(name)(text)


class Inbox:
    """An actor that holds the workers' events until the driver takes them."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def put(self, events: list[Event]) -> None:
        self._events += events

    def take(self) -> list[Event]:
        events, self._events = self._events, []
        return events


class _Messages:
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

    def __init__(self, messages: _Messages) -> None:
        super().__init__(logging.INFO)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.send("log", (record.levelno, record.getMessage()))


def spent(spending: Spending) -> tuple[float, int, int]:
    """(dollars, calls, calls of unknown price)."""
    return spending.spent, spending.calls, spending.unpriced


def work(order: Order, inbox: Any) -> StageOutcome:
    """Run a stage as the driver would. Errors meant for the user are returned, others are raised."""
    # Ray sets this to the task's CPUs, before torch is imported; a run in process wouldn't have it.
    os.environ.pop("OMP_NUM_THREADS", None)
    os.environ.update(order.environment)
    use_threads(order.threads)
    spending = Spending(order.limit, order.prices)
    messages = _Messages(order.stage.key, inbox, spending)
    logger, handler = logging.getLogger("harness"), _Log(messages)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    store = Store(order.root)
    inputs = {}
    started = time.monotonic()
    try:
        for role, needed in order.stage.inputs.items():
            artifact = store.find(needed.key)
            if artifact is None:
                text = f"{order.root}: {needed.id} is missing: the store must be visible to all nodes"
                return StageOutcome(False, {}, 0.0, spent(spending), ("StoreError", text))
            inputs[role] = artifact
        result, ran = run_stage(order.stage, inputs, store, messages, spending, order.position)
    except (HarnessError, OSError) as error:
        text = str(error) if isinstance(error, HarnessError) else f"{error.filename or ''}: {error.strerror}"
        return StageOutcome(False, {}, 0.0, spent(spending), (type(error).__name__, text))
    finally:
        stop_all()
        messages.flush()
        logger.removeHandler(handler)
    return StageOutcome(ran, result.report, time.monotonic() - started, spent(spending))
