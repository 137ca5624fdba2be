"""What judging costs: prices, a limit that is not passed, and what one request runs up.

A price table is a YAML file of `model: {input: DOLLARS, output: DOLLARS}`, dollars per million tokens, by the model's
name as the judge asks for it. `harness/assets/prices.yaml` ships; `$HARNESS_HOME/prices.yaml` goes before it, and the
recipe's `evaluation.prices` before that. A model in none of them has no known price: unknown, never 0.
"""

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from harness.datafiles import asset
from harness.errors import CostError, DataError
from harness.pace import POLL, Stopped
from harness.paths import cache_root
from harness.types import JudgeRequest


class Price(BaseModel):
    """Dollars for a million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    input: float = Field(ge=0)
    output: float = Field(ge=0)

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


FREE = Price(input=0, output=0)


def read_prices(path: Path) -> dict[str, Price]:
    """A price table. Raises DataError."""
    import yaml

    expected = "expected a line `MODEL: {input: 2.5, output: 10}` a model, in dollars per million tokens"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(dict[str, Price]).validate_python(found or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise DataError(f"price table {path}: {where}: {first['msg']}; {expected}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = (getattr(error, "strerror", None) or str(error)).split("\n")[0]
        raise DataError(f"price table {path} can't be read ({why}); {expected}") from None


def price_table(path: Path | None) -> dict[str, Price]:
    """All known prices by model: those in `path` go before the user's own table, and that before the shipped one."""
    own = cache_root() / "prices.yaml"
    tables = [asset("prices.yaml"), *([own] if own.is_file() else []), *([path] if path else [])]
    return {model: price for table in tables for model, price in read_prices(table).items()}


def price_of(judge: Any, table: Mapping[str, Price]) -> Price | None:
    """What a judge's tokens cost; None: not known. A judge in process costs nothing. A served one costs what its own
    `price` says, else what the table says of its model; one that is made from served ones has no single price."""
    if hasattr(judge, "base_url"):
        return getattr(judge, "price", None) or table.get(judge.model)
    return None if _has_served_parts(judge) else FREE


def _has_served_parts(value: Any) -> bool:
    if isinstance(value, BaseModel):
        return hasattr(value, "base_url") or any(_has_served_parts(getattr(value, f)) for f in type(value).model_fields)
    return isinstance(value, list | tuple) and any(_has_served_parts(item) for item in value)


def at_most(request: JudgeRequest, price: Price) -> float:
    """Dollars that one call may cost at worst: a token of the prompt is at least a byte, the reply as long as it may
    be; 16 more tokens a message for what marks its beginning and end."""
    prompt = sum(len(m.content.encode("utf-8", "replace")) + 16 for m in request.messages) + 16
    return price.of(prompt, request.max_tokens)


def dollars(amount: float | None) -> str:
    """`$1.2345`, or `unknown`."""
    return "unknown" if amount is None else f"${amount:,.2f}" if amount >= 100 else f"${amount:.4f}"


class JudgeCost(NamedTuple):
    """What a verdict stage may cost. `calls` that are still to be made, and `known` that are answered already; tokens
    of the calls; `dollars` for replies of usual length, `at_most` for the longest that are allowed (None: price
    unknown). `basis`: what the prompts' lengths were taken from."""

    calls: int
    known: int
    prompt_tokens: int
    reply_tokens: int
    dollars: float | None
    at_most: float | None
    basis: str


def total(costs: Sequence[JudgeCost], basis: str) -> JudgeCost:
    """Costs as one; a sum with something unknown in it is unknown."""

    def summed(amounts: Sequence[float | None]) -> float | None:
        return None if None in amounts else sum(a for a in amounts if a is not None)

    return JudgeCost(
        calls=sum(c.calls for c in costs),
        known=sum(c.known for c in costs),
        prompt_tokens=sum(c.prompt_tokens for c in costs),
        reply_tokens=sum(c.reply_tokens for c in costs),
        dollars=summed([c.dollars for c in costs]),
        at_most=summed([c.at_most for c in costs]),
        basis=basis,
    )


class Spending:
    """The dollars of one run over all its judges. With a `limit` no call is made that could pass it, were every call
    under way as dear as it can be; a call whose reply was lost on the way counts as the dearest. `prices`: the recipe's
    price table."""

    def __init__(self, limit: float | None = None, prices: Path | None = None) -> None:
        self.limit = limit
        self.prices = prices
        self.spent = 0.0
        self.unpriced = 0
        self.calls = 0
        self._changed = threading.Condition()
        self._held = 0.0
        self._under_way = 0

    @cached_property
    def table(self) -> dict[str, Price]:
        """All known prices by model. Raises DataError."""
        return price_table(self.prices)

    def hold(self, worst: float, stop: threading.Event) -> None:
        """Set `worst` dollars aside for a call, as soon as calls under way leave room for it. Raises CostError where
        they can't."""
        limit = self.limit
        with self._changed:
            while limit is not None and self.spent + self._held + worst > limit:
                if stop.is_set():
                    raise Stopped
                if self.spent + worst > limit or not self._under_way:
                    raise CostError(
                        f"stopped before --max-cost {limit:g} was passed: {dollars(self.spent)} is spent and the next "
                        f"call may cost up to {dollars(worst)}; all that was answered is kept: "
                        "the same command with a larger --max-cost goes on from there"
                    )
                self._changed.wait(POLL)
            self._held += worst
            self._under_way += 1

    def release(self, worst: float, spent: float) -> None:
        """A call has ended, and cost `spent` dollars."""
        with self._changed:
            self._under_way -= 1
            self._held = self._held - worst if self._under_way else 0.0
            self.spent += spent
            self._changed.notify_all()

    def add(self, spent: float, calls: int, unpriced: int) -> None:
        """What another process has spent for this run."""
        with self._changed:
            self.spent += spent
            self.calls += calls
            self.unpriced += unpriced

    def note(self, prices: Sequence[float | None], *, spent: bool) -> None:
        """Replies were had at these prices, None where one isn't known; `spent`: they were on no tab."""
        with self._changed:
            self.calls += len(prices)
            self.unpriced += sum(p is None for p in prices)
            if spent:
                self.spent += sum(p for p in prices if p is not None)


class Tab:
    """What one request runs up, call by call, and what went wrong on the way. `worst`: dollars that one call of it may
    cost, 0 where there is no limit to be kept."""

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
        self._close(self._worst)  # of a call before it nobody knows what it cost
        self._spending.hold(self._worst, self.stop)
        self._open = True

    def uncharged(self) -> None:
        """The last call cost nothing: the server refused it."""
        self._close(0.0)

    def settle(self, price: float | None) -> None:
        """The request has ended. `price` is that of its reply; None: not known, or there was none."""
        self._close(self._worst if price is None else price)

    def _close(self, spent: float) -> None:
        if self._open:
            self._open = False
            self._spending.release(self._worst, spent)
