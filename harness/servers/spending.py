"""Judging costs: a run's spending, its limit, and the tab of a single request.

For prices see `harness.servers.prices`. The recipe's `evaluation.prices` goes before `$HARNESS_HOME/prices.yaml`, that
before what `harness prices --renew` has read, and that before the shipped `harness/assets/prices.yaml`.
"""

import math
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from harness.errors import CostError
from harness.servers.pace import POLL, Stopped
from harness.servers.prices import PriceTable, dollars, price_table


class JudgeCost(NamedTuple):
    """The estimated cost of a verdict stage. `calls` still to be made; `answered`: requests whose replies are already
    stored; tokens of the calls; `dollars` for replies of typical length, `at_most` for the longest allowed replies
    (None: price unknown). `basis`: what the prompt lengths are based on."""

    calls: int
    answered: int
    prompt_tokens: int
    reply_tokens: int
    dollars: float | None
    at_most: float | None
    basis: str


def total(costs: Sequence[JudgeCost], basis: str) -> JudgeCost:
    """The sum of several costs; unknown if any part is unknown."""

    def summed(amounts: Sequence[float | None]) -> float | None:
        return None if None in amounts else sum(a for a in amounts if a is not None)

    return JudgeCost(
        calls=sum(c.calls for c in costs),
        answered=sum(c.answered for c in costs),
        prompt_tokens=sum(c.prompt_tokens for c in costs),
        reply_tokens=sum(c.reply_tokens for c in costs),
        dollars=summed([c.dollars for c in costs]),
        at_most=summed([c.at_most for c in costs]),
        basis=basis,
    )


class Spending:
    """The spending of one run over all its judges, in dollars. With a `limit`, no call is made that could exceed it
    even if all calls in flight cost their maximum. A call whose reply was lost counts at its maximum. `prices`: the
    recipe's price table."""

    def __init__(self, limit: float | None = None, prices: Path | None = None) -> None:
        self.limit = limit
        self.prices = prices
        self.spent = 0.0
        self.unpriced = 0
        self.calls = 0
        self._changed = threading.Condition()
        self._reserved = 0.0
        self._in_flight = 0

    @cached_property
    def table(self) -> PriceTable:
        """All known prices by model. Raises DataError."""
        return price_table(self.prices)

    def hold(self, worst: float, stop: threading.Event) -> None:
        """Reserve `worst` dollars for a call; waits until calls in flight leave enough of the limit. Raises CostError
        if the limit doesn't allow the call."""
        limit = self.limit
        with self._changed:
            while limit is not None and self.spent + self._reserved + worst > limit:
                if stop.is_set():
                    raise Stopped
                if self.spent + worst > limit or not self._in_flight:
                    raise self.too_dear(worst)
                self._changed.wait(POLL)
            self._reserved += worst
            self._in_flight += 1

    def room(self) -> float:
        """Dollars that may still be reserved."""
        with self._changed:
            return math.inf if self.limit is None else self.limit - self.spent - self._reserved

    def too_dear(self, worst: float) -> CostError:
        """The error for what may cost `worst` dollars, and more than the limit leaves."""
        return CostError(
            f"stopped before exceeding --max-cost {self.limit or 0:g}: {dollars(self.spent)} is spent and the next "
            f"call may cost up to {dollars(worst)}; all replies are kept: "
            "run the same command with a larger --max-cost to continue"
        )

    def release(self, worst: float, spent: float) -> None:
        """A call has ended and cost `spent` dollars; frees its reservation of `worst`."""
        with self._changed:
            self._in_flight -= 1
            self._reserved = self._reserved - worst if self._in_flight else 0.0
            self.spent += spent
            self._changed.notify_all()

    def add(self, spent: float, calls: int, unpriced: int) -> None:
        """Add the spending of another process for this run."""
        with self._changed:
            self.spent += spent
            self.calls += calls
            self.unpriced += unpriced

    def note(self, prices: Sequence[float | None], *, spent: bool) -> None:
        """Count replies with these prices (None: unknown). `spent`: add the prices too, for replies that were on no
        tab."""
        with self._changed:
            self.calls += len(prices)
            self.unpriced += sum(p is None for p in prices)
            if spent:
                self.spent += sum(p for p in prices if p is not None)


class Tab:
    """The cost of one request over all its calls, and the faults on the way. `worst`: the highest possible cost of one
    call in dollars; 0 if there is no limit."""

    def __init__(
        self, spending: Spending | None = None, worst: float = 0.0, stop: threading.Event | None = None
    ) -> None:
        self.faults: list[str] = []
        self.stop = stop or threading.Event()
        self._spending = spending or Spending()
        self._worst = worst
        self._open = False

    def begin(self) -> None:
        """A call is about to be made. Raises CostError, or Stopped."""
        self._close(self._worst)  # the cost of a previous call is unknown
        self._spending.hold(self._worst, self.stop)
        self._open = True

    def uncharged(self) -> None:
        """The last call cost nothing, because the server refused it."""
        self._close(0.0)

    def settle(self, price: float | None) -> None:
        """The request has ended. `price`: of its reply; None: unknown, or there was no reply."""
        self._close(self._worst if price is None else price)

    def _close(self, spent: float) -> None:
        if self._open:
            self._open = False
            self._spending.release(self._worst, spent)
