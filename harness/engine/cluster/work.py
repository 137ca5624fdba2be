"""The task of a Ray worker: runs one stage on the shared store and reports its progress. Of a stage whose shards are
spread it does the rest: it deals them to workers (`harness.engine.cluster.shards`), and merges what they return."""

import time
from typing import Any, NamedTuple

from harness.engine.cluster.process import Messages, Order, forwarded, inputs_of, prepare, spent
from harness.engine.cluster.shards import Workers
from harness.engine.execute import run_stage
from harness.engine.store import Store
from harness.errors import HarnessError, error_class
from harness.servers.spending import Spending
from harness.serving.pool import stop_all


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


def work(order: Order, inbox: Any) -> StageOutcome:
    """Run a stage as the driver would. Errors meant for the user are returned, others are raised."""
    # What is spread computes nothing here, so torch, which takes seconds to import, isn't needed for its threads' sake.
    prepare(order, None if order.workers else order.threads)
    spending = Spending(order.limit, order.prices)
    messages = Messages(order.stage.key, inbox, spending)
    started = time.monotonic()
    workers = _workers(order, inbox) if order.workers else None
    with forwarded(messages):
        try:
            store = Store(order.root)
            inputs = inputs_of(order.stage, store)
            result, ran = run_stage(order.stage, inputs, store, messages, spending, order.position, workers)
        except (HarnessError, OSError) as error:
            text = str(error) if isinstance(error, HarnessError) else f"{error.filename or ''}: {error.strerror}"
            return StageOutcome(False, {}, 0.0, spent(spending), (type(error).__name__, text))
        finally:
            if workers:
                workers.close()
            stop_all()
    return StageOutcome(ran, result.report, time.monotonic() - started, spent(spending))


def _workers(order: Order, inbox: Any) -> Workers:
    import ray

    return Workers(ray, order, inbox)
