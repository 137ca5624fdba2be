"""What a Ray worker does: run one stage on a store that all nodes share, and say how it goes on."""

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

EVERY = 0.2
"""Seconds between two messages about progress."""

Event = tuple[str, str, Any]
"""(what, the stage's key, more): `stage`, `waiting`, `start` (what, total), `advance` (items), `spent` (dollars, calls,
unpriced calls), `log` (level, message)."""


class Order(NamedTuple):
    """A stage to be run. `environment`: the driver's variables that say where files lie. `limit`: dollars that its
    judges may cost; `prices`: the recipe's price table. `threads`: to compute with, None: as many as in process."""

    stage: Stage
    root: Path
    place: StagePosition
    environment: Mapping[str, str]
    limit: float | None
    prices: Path | None
    threads: int | None


class Outcome(NamedTuple):
    """What became of it. `error`: the name of a HarnessError's class and its text, where one was raised."""

    ran: bool
    report: dict[str, Any]
    seconds: float
    spent: tuple[float, int, int]
    error: tuple[str, str] | None = None

    def raised(self) -> HarnessError | None:
        """The error as it would have been raised in process."""
        if self.error is None:
            return None
        name, text = self.error
        return error_class(name)(text)


class Inbox:
    """An actor that keeps what workers say until the driver asks."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def put(self, events: list[Event]) -> None:
        self._events += events

    def take(self) -> list[Event]:
        found, self._events = self._events, []
        return found


class _Messages:
    """A `harness.engine.execute.Reporter` that sends what it is told to the inbox, a few times a second at most."""

    def __init__(self, key: str, inbox: Any, spending: Spending) -> None:
        self._key, self._inbox, self._spending = key, inbox, spending
        self._items = 0
        self._told = 0.0

    def start(self, what: str, total: int | None) -> None:
        self.flush()
        self.send("start", (what, total))

    def advance(self, items: int) -> None:
        self._items += items
        if time.monotonic() - self._told >= EVERY:
            self.flush()

    def flush(self) -> None:
        self._told = time.monotonic()
        events: list[Event] = [("spent", self._key, spent(self._spending))] if self._spending.calls else []
        if self._items:
            events.append(("advance", self._key, self._items))
            self._items = 0
        if events:
            self._inbox.put.remote(events)

    def send(self, what: str, more: Any) -> None:
        self._inbox.put.remote([(what, self._key, more)])

    def stage(self, stage: Stage, number: int, total: int) -> None:
        self.send("stage", platform.node())

    def done(self, stage: Stage, report: dict[str, Any], seconds: float) -> None:
        self.flush()

    def waiting(self, stage: Stage) -> None:
        self.send("waiting", None)


class _Log(logging.Handler):
    """Sends the harness's log to the driver, which writes it into the run's."""

    def __init__(self, messages: _Messages) -> None:
        super().__init__(logging.INFO)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.send("log", (record.levelno, record.getMessage()))


def spent(spending: Spending) -> tuple[float, int, int]:
    """Dollars, calls, and calls of unknown price."""
    return spending.spent, spending.calls, spending.unpriced


def work(order: Order, inbox: Any) -> Outcome:
    """Run a stage as the driver would. Errors meant for the user come back as they are, others are raised."""
    # Ray says here that a task has one processor, before torch is imported: in process nobody would have.
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
                text = f"{order.root}: {needed.id} is not there: the store must be where all nodes see it"
                return Outcome(False, {}, 0.0, spent(spending), ("StoreError", text))
            inputs[role] = artifact
        made, ran = run_stage(order.stage, inputs, store, messages, spending, order.place)
    except (HarnessError, OSError) as error:
        text = str(error) if isinstance(error, HarnessError) else f"{error.filename or ''}: {error.strerror}"
        return Outcome(False, {}, 0.0, spent(spending), (type(error).__name__, text))
    finally:
        messages.flush()
        logger.removeHandler(handler)
    return Outcome(ran, made.report, time.monotonic() - started, spent(spending))
