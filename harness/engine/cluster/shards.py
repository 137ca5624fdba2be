"""Shards of a running stage on the nodes of a cluster: its task deals them to workers, which are actors that keep what
they have loaded, models and engines, from one shard to the next.

A shard whose worker or node is lost is done by another worker. What it had computed is in its journal.
"""

import logging
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
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
    folder: Path
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
        self._kept: dict[bytes, Any] = {}
        # Those that only wait for servers start without torch.
        prepare(order, None if order.stage.spreads == "by node" else order.threads)
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
                result = self._keeping(given.work)(ctx.of(shard), shard)
            except HarnessError as failure:
                error = (type(failure).__name__, str(failure))
            except OSError as failure:
                error = (type(failure).__name__, f"{failure.filename or ''}: {failure.strerror}")
        return ShardOutcome(result, spent(spending), error)

    def close(self) -> None:
        stop_all()

    def _keeping(self, work: Work) -> Work:
        """The work with those of its arguments that came before: components keep the models that they load."""
        from ray import cloudpickle

        if not isinstance(work, partial):
            return work
        given = (self._kept.setdefault(cloudpickle.dumps(one), one) for one in work.args)
        return partial(work.func, *given, **work.keywords)


class Workers:
    """The workers of one stage; a `harness.engine.stage.Workers`. Started when there are shards. One that finds no more
    of them ends, and frees what it holds, unless more are to come."""

    def __init__(self, ray: Any, order: Order, inbox: Any) -> None:
        self.count = order.workers
        self.order = order
        self._ray, self._inbox = ray, inbox
        needed = order.resources
        self._actor = ray.remote(Worker).options(
            num_cpus=needed.cpus,
            num_gpus=needed.gpus,
            memory=needed.memory or None,
            scheduling_strategy="SPREAD",
            max_restarts=0,
            name=None,
        )
        self._idle: list[Any] = []
        self._ending: dict[Any, Any] = {}  # the actor by what it ends with

    def do(self, ctx: Context, work: Work, shards: Sequence[Shard], *, more: bool) -> list[Any]:
        """As in `harness.engine.stage.Workers`. Raises what a shard raises, and HarnessError for one whose worker is
        lost again and again."""
        return _Round(self._ray, self, ctx, work, shards, more).run()

    def start(self) -> Any:
        return self._actor.remote(self.order, self._inbox)

    def idle(self) -> Any | None:
        """One that waits for more, if any does."""
        return self._idle.pop() if self._idle else None

    def rest(self, actor: Any, *, more: bool) -> None:
        """A worker has nothing to do. `more`: yet."""
        if more:
            self._idle.append(actor)
        else:
            self._ending[actor.close.remote()] = actor

    def wait(self, running: Collection[Any]) -> list[Any]:
        """Those of the running calls that have ended, after a short while if none has."""
        done, _ = self._ray.wait([*running, *self._ending], num_returns=1, timeout=POLL)
        for ref in done:
            if (actor := self._ending.pop(ref, None)) is not None:
                self._ray.kill(actor)
        return [ref for ref in done if ref in running]

    def close(self) -> None:
        """End all, and their engines."""
        while self._idle:
            self.rest(self._idle.pop(), more=False)
        if self._ending:
            self._ray.wait(list(self._ending), num_returns=len(self._ending), timeout=CLOSING)
        for actor in self._ending.values():
            self._ray.kill(actor)
        self._ending.clear()


class _Round:
    """The shards of one call."""

    def __init__(
        self, ray: Any, workers: Workers, ctx: Context, work: Work, shards: Sequence[Shard], more: bool
    ) -> None:
        self._ray, self._workers, self._ctx, self._shards = ray, workers, ctx, shards
        self._work, self._more = work, more
        # The largest first, so that no worker begins a large one when the others have nothing left.
        self._queue = deque(sorted(range(len(shards)), key=lambda number: -shards[number].size))
        self._results: dict[int, Any] = {}
        self._lost = [0] * len(shards)
        self._unborn = 0  # workers that were lost before they had a shard
        self._running: dict[Any, tuple[Any, int | None]] = {}

    def run(self) -> list[Any]:
        for _ in range(min(self._workers.count, len(self._shards))):
            if (actor := self._workers.idle()) is not None:
                self._give(actor)
            else:
                self._start()
        try:
            while len(self._results) < len(self._shards):
                done = self._workers.wait(self._running.keys())
                self._ctx.progress.advance(0)
                for ref in done:
                    self._take(ref)
        finally:
            for actor, _ in self._running.values():
                self._ray.kill(actor)
        return [self._results[number] for number in range(len(self._shards))]

    def _start(self) -> None:
        actor = self._workers.start()
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
            self._workers.rest(actor, more=self._more)

    def _give(self, actor: Any) -> None:
        number = self._queue.popleft()
        limit = None if self._workers.order.limit is None else self._ctx.spending.room()
        given = Given(self._work, self._ctx.folder, limit)
        self._running[actor.do.remote(given, self._shards[number])] = (actor, number)

    def _again(self, actor: Any, number: int | None, error: Exception) -> None:
        """A worker is lost, with its shard if it had one."""
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(actor)  # it may only have been out of reach
        stage = self._workers.order.stage
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
