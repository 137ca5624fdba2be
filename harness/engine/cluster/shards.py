"""Shards of a running stage on the nodes of a cluster: its task deals them to workers, which are actors that keep what
they have loaded, models and engines, from one shard to the next.

A shard whose worker or node is lost is done by another worker. What it had computed is in its journal.
"""

import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from harness.engine.cluster.process import Messages, Order, forwarded, inputs_of, lost, prepare, spent
from harness.engine.engines import make_room
from harness.engine.shards.spool import Shard
from harness.engine.stage import Context, Work
from harness.engine.store import Store
from harness.errors import HarnessError, error_class
from harness.servers.spending import Spending
from harness.serving.pool import stop_all

log = logging.getLogger("harness")
RETRIES = 3
"""How often a shard is done again after its worker was lost."""
POLL = 0.2
CLOSING = 30.0
"""Seconds that a worker has to stop its engines."""


class Given(NamedTuple):
    """A stage's work as its workers get it. `folder`: of the artifact that is being built. `limit`: dollars that judges
    may cost."""

    work: Work
    folder: Any
    limit: float | None


class ShardOutcome(NamedTuple):
    """`spent`: as in `harness.engine.cluster.process.spent`. `error`: class name and text of an error meant for the
    user."""

    result: Any
    spent: tuple[float, int, int]
    error: tuple[str, str] | None = None


class Worker:
    """An actor: does one shard at a time."""

    def __init__(self, order: Order, inbox: Any) -> None:
        self._order = order
        prepare(order)
        self._messages = Messages(order.stage.key, inbox, Spending())
        self._store = Store(order.root)
        make_room(order.stage, self._store)

    def ready(self) -> None:
        """Returns once the actor runs."""

    def do(self, given: Given, shard: Shard) -> ShardOutcome:
        """Errors meant for the user are returned, others are raised."""
        stage, store = self._order.stage, self._store
        spending = Spending(given.limit, self._order.prices)
        result, error = None, None
        with forwarded(self._messages):
            try:
                inputs = inputs_of(stage, store)
                partial = store.partial(stage.key)
                ctx = Context(given.folder, inputs, self._messages, log, store, partial, stage.key, spending)
                result = given.work(ctx.of(shard), shard)
            except HarnessError as failure:
                error = (type(failure).__name__, str(failure))
            except OSError as failure:
                error = (type(failure).__name__, f"{failure.filename or ''}: {failure.strerror}")
        return ShardOutcome(result, spent(spending), error)

    def close(self) -> None:
        stop_all()


class Workers:
    """The workers of one stage; a `harness.engine.stage.Workers`. Started when there are shards, and ended with
    them."""

    def __init__(self, ray: Any, order: Order, inbox: Any) -> None:
        self._ray, self._order, self._inbox = ray, order, inbox
        self.count = order.workers

    def do(self, ctx: Context, work: Work, shards: Sequence[Shard]) -> list[Any]:
        """As in `harness.engine.stage.Workers`. Raises what a shard raises, and HarnessError for one whose worker is
        lost again and again."""
        return _Round(self._ray, self._order, self._inbox, ctx, work, shards).run(self.count)


class _Round:
    """The shards of one call."""

    def __init__(self, ray: Any, order: Order, inbox: Any, ctx: Context, work: Work, shards: Sequence[Shard]) -> None:
        self._ray, self._order, self._inbox, self._ctx, self._shards = ray, order, inbox, ctx, shards
        self._work = work
        needed = order.resources
        self._actor = ray.remote(Worker).options(
            num_cpus=needed.cpus,
            num_gpus=needed.gpus,
            memory=needed.memory or None,
            scheduling_strategy="SPREAD",
            max_restarts=0,
            name=None,
        )
        self._queue = deque(range(len(shards)))
        self._results: dict[int, Any] = {}
        self._lost = [0] * len(shards)
        self._unborn = 0  # workers that were lost before they had a shard
        self._running: dict[Any, tuple[Any, int | None]] = {}

    def run(self, count: int) -> list[Any]:
        for _ in range(min(count, len(self._shards))):
            self._start()
        try:
            while len(self._results) < len(self._shards):
                done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=POLL)
                self._ctx.progress.advance(0)
                for ref in done:
                    self._take(ref)
        finally:
            for actor, _ in self._running.values():
                self._ray.kill(actor)
        return [self._results[number] for number in range(len(self._shards))]

    def _start(self) -> None:
        actor = self._actor.remote(self._order, self._inbox)
        self._running[actor.ready.remote()] = (actor, None)

    def _take(self, ref: Any) -> None:
        """A worker is ready, has done a shard, or is lost."""
        actor, number = self._running.pop(ref)
        try:
            outcome: ShardOutcome | None = self._ray.get(ref)
        except lost(self._ray) as error:
            self._again(actor, number, error)
            return
        except self._ray.exceptions.RayTaskError as error:
            self._ray.kill(actor)
            raise error.cause if isinstance(error.cause, Exception) else error from None
        if number is not None and outcome is not None:
            self._ctx.spending.add(*outcome.spent)
            if outcome.error is not None:
                self._ray.kill(actor)
                raise error_class(outcome.error[0])(outcome.error[1])
            self._results[number] = outcome.result
        if self._queue:
            self._give(actor)
        else:
            self._end(actor)

    def _give(self, actor: Any) -> None:
        number = self._queue.popleft()
        limit = None if self._order.limit is None else self._ctx.spending.room()
        given = Given(self._work, self._ctx.folder, limit)
        self._running[actor.do.remote(given, self._shards[number])] = (actor, number)

    def _again(self, actor: Any, number: int | None, error: Exception) -> None:
        """A worker is lost, with its shard if it had one."""
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(actor)  # it may only have been out of reach
        stage = self._order.stage
        if number is None:
            self._unborn += 1
            times, what = self._unborn, "a worker"
        else:
            self._queue.appendleft(number)
            self._lost[number] += 1
            times, what = self._lost[number], f"the worker of shard {self._shards[number].bits or 'all'}"
        if times > RETRIES and (number is not None or not self._running):
            raise HarnessError(
                f"{stage.id}: {what} was lost {times} times ({type(error).__name__}); give it more memory in "
                f"runtime.resources.{stage.name}, or smaller batches"
            )
        log.warning("%s: %s or its node was lost; another one goes on", stage.id, what)
        if self._queue:
            self._start()

    def _end(self, actor: Any) -> None:
        """Free the resources of a worker that has nothing more to do."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.get(actor.close.remote(), timeout=CLOSING)
        self._ray.kill(actor)
