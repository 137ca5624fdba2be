"""Asks a judge in batches: submits, waits, collects, and says what is left to be asked directly."""

import json
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Literal

from harness.engine import interrupts
from harness.judging.batches.records import Batch, Records
from harness.printable import printable
from harness.protocols import Judge
from harness.servers.adapting.chatting import as_sent
from harness.servers.batches.batching import Batching, Refused
from harness.servers.batches.endpoints import ENDED, ENDPOINT, Line, NoBatches, State
from harness.servers.pace import POLL
from harness.servers.prices import at_most
from harness.servers.spending import Spending
from harness.types import JudgeReply, JudgeRequest, Price

MOST_REQUESTS, MOST_BYTES = 50_000, 190_000_000
"""Of one batch; OpenAI takes 50,000 and 200 MB."""
FEWEST = 10
"""Requests that are worth another batch, and that one must have room for within a spending limit."""
ROUNDS = 4
"""How often a request is put into a batch before it is asked directly."""
FIRST_LOOK, LONGEST_LOOK, GROWTH = 0.5, 60.0, 1.4
"""Seconds between two looks at a batch; the wait grows by the factor."""
TINY = 1e-9
"""Dollars; more than a sum's rounding."""
UNKNOWN_FOR = 60.0
"""Seconds for which the server may not yet know a batch that it has just made."""
_log = logging.getLogger("harness")

Take = Callable[[Sequence[tuple[str, JudgeReply]]], None]
"""Takes replies by key, and returns when they are on disk."""


def directly(judge: Judge) -> Judge:
    """The same judge with `mode: direct`, for who asks a few requests at a time."""
    return judge.model_copy(update={"mode": "direct"}) if isinstance(judge, Batching) else judge


class _Parts:
    """The lines of a batch to be submitted, and what it may cost."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.lines: list[bytes] = []
        self.size = 0
        self.worst = 0.0

    def add(self, key: str, line: bytes, cost: float) -> None:
        self.keys.append(key)
        self.lines.append(line)
        self.size += len(line)
        self.worst += cost


class Batches:
    """The batches of one judge, for one journal of replies. `price`: of its tokens; that of batches is used. `shown`:
    called with the number of requests that the server has newly executed."""

    def __init__(
        self, judge: Batching, journal: Path, price: Price | None, spending: Spending, shown: Callable[[int], None]
    ) -> None:
        self._judge = judge
        self._records = Records(judge, journal, self._tell)
        self._price = price.in_batch() if price else None
        self._spending = spending
        self._shown = shown
        self._who = f"judge '{judge.name}'"
        self._executed: dict[str, int] = {}
        self._refused: list[Refused] = []

    def ask(self, missing: Mapping[str, JudgeRequest], take: Take, known: Collection[str]) -> dict[str, JudgeRequest]:
        """Ask for replies; `take` receives them. Returns the requests that are left, to be asked directly: where the
        server takes no batches, and for lines that it hasn't executed. `known`: keys that have replies. Raises the
        judge's error, and CostError if the next batch may cost more than the run's limit."""
        left, directly = dict(missing), set[str]()
        rounds = Counter[str]()
        under_way = list(self._records.found(left))
        takes_batches = True
        try:
            while True:
                waiting = {key for batch in under_way for key in batch.keys}
                directly |= {key for key in left if not takes_batches or rounds[key] >= ROUNDS} - waiting
                to_send = {key: left[key] for key in left if key not in waiting and key not in directly}
                try:
                    for batch in self._submitted(to_send, can_wait=bool(under_way)):
                        under_way.append(batch)
                        rounds.update(batch.keys)
                except NoBatches as error:
                    takes_batches = False
                    self._tell(f"the server takes no batch ({error}); requests are asked directly, at the usual price")
                    continue
                if not under_way:
                    return left
                batch, state = self._wait(under_way)
                under_way.remove(batch)
                again = self._collect(batch, state, left, take)
                self._end(batch, state.status if state else "not known", missing.keys() | known)
                directly |= set(batch.keys) - again
        except BaseException as error:
            self._leave(under_way, told=isinstance(error, KeyboardInterrupt))
            raise

    def settle(
        self, missing: Mapping[str, JudgeRequest], take: Take, known: Collection[str]
    ) -> dict[str, JudgeRequest]:
        """For `mode: direct`: take what earlier batches have, and stop those that are still under way. Returns the
        requests that are left."""
        left = dict(missing)
        for batch in list(self._records.found(left)):
            state = self._judge.state(batch.batch)
            if state is None or state.status in ENDED:
                self._collect(batch, state, left, take)
                self._end(batch, state.status if state else "not known", missing.keys() | known)
                continue
            stopped = "it is stopped" if self._judge.cancel(batch.batch) else "it can't be stopped"
            self._end(batch, "left", batch.keys)
            count = sum(key in left for key in batch.keys)
            self._tell(
                f"{count:,} of these requests are in batch {batch.batch}, which is under way; {stopped}, but what it "
                "has answered is paid twice (mode: batch would have waited)"
            )
        return left

    # Submitting.

    def _submitted(self, requests: Mapping[str, JudgeRequest], *, can_wait: bool) -> Iterator[Batch]:
        """Submit requests in as many batches as the server's limits need, as far as the spending limit allows.
        `can_wait`: others are under way, which may leave room when they have ended."""
        refused = tuple(dict.fromkeys((*self._judge.refusals, *self._refused)))
        parts = _Parts()
        for number, (key, request) in enumerate(requests.items()):
            cost = self._at_most(request) if self._spending.limit is not None else 0.0
            if parts.worst + cost > self._spending.room() - TINY:
                if len(parts.keys) >= min(FEWEST, len(requests) - number + len(parts.keys)):
                    break
                if can_wait:
                    return
                raise self._spending.too_dear(parts.worst + cost)
            line = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": self._judge.body_of(request, refused)}
            data = json.dumps(line).encode() + b"\n"
            if parts.keys and (len(parts.keys) >= MOST_REQUESTS or parts.size + len(data) > MOST_BYTES):
                yield self._submit(parts, refused)
                parts, can_wait = _Parts(), True
            parts.add(key, data, cost)
        if parts.keys:
            yield self._submit(parts, refused)

    def _submit(self, parts: _Parts, refused: tuple[Refused, ...]) -> Batch:
        keys, token, made = tuple(parts.keys), secrets.token_hex(16), time.time()
        self._spending.hold(parts.worst, Event())
        try:
            self._records.planned(token, keys, made, refused)
            file = self._judge.upload(f"harness-{token}", b"".join(parts.lines))
            self._records.sent(token, file)
            name = self._judge.submit(file, token)
            self._records.named(token, name)
        except NoBatches:
            self._spending.release(parts.worst, 0.0)
            self._records.ended(token, "not taken")
            raise
        except BaseException:
            self._spending.release(parts.worst, parts.worst)  # it may have been taken
            raise
        self._tell(
            f"{len(keys):,} requests were submitted as batch {name}, to be ready within a day; interrupting this run "
            "leaves it under way, and the same command goes on with it"
        )
        return Batch(token, name, keys, made, refused, parts.worst)

    # Waiting and collecting.

    def _wait(self, under_way: Sequence[Batch]) -> tuple[Batch, State | None]:
        """The first batch that has ended, and how; None if the server doesn't know it."""
        pause = FIRST_LOOK
        while True:
            for batch in under_way:
                interrupts.check()
                state = self._judge.state(batch.batch)
                if state is None and time.time() - batch.made > UNKNOWN_FOR:
                    return batch, None
                if state is not None:
                    self._show(batch, state)
                    if state.status in ENDED:
                        return batch, state
            until = time.monotonic() + pause
            while (rest := until - time.monotonic()) > 0:
                interrupts.check()
                time.sleep(min(POLL, rest))
            pause = min(LONGEST_LOOK, pause * GROWTH)

    def _show(self, batch: Batch, state: State) -> None:
        done, before = min(state.done, len(batch.keys)), self._executed.get(batch.batch, -1)
        if done > before:
            status = printable(state.status, 40)
            _log.info("%s: batch %s: %s, %d of %d done", self._who, batch.batch, status, done, len(batch.keys))
            self._executed[batch.batch] = done
            self._shown(done - max(0, before))

    def _collect(self, batch: Batch, state: State | None, left: dict[str, JudgeRequest], take: Take) -> set[str]:
        """Take a batch's replies, whose requests leave `left`. Returns the keys that the next batch should ask again,
        since the server has refused what can be left out."""
        rows: dict[str, JudgeReply] = {}
        told, again, strange = set[str](), set[str](), 0
        own = set(batch.keys)
        for line in self._judge.results(state) if state else ():
            if line is None or line.key not in own or line.key in rows or (line.key in told and line.status != 200):
                strange += 1
                continue
            if line.status != 200:
                told.add(line.key)
            reply = self._reply(left[line.key], batch, line) if line.key in left and line.status else "directly"
            if isinstance(reply, JudgeReply):
                rows[line.key] = reply
            elif reply == "again":
                again.add(line.key)
        # What a line says of it was not charged; what no line tells of may have been.
        lost = [] if state and state.status == "failed" else [key for key in own - told - rows.keys() if key in left]
        self._settle(batch, [reply.price for reply in rows.values()], [left[key] for key in lost])
        if rows and batch.refused:
            self._judge.refusals.extend(refused for refused in batch.refused if refused not in self._judge.refusals)
        take(list(rows.items()))
        for key in rows:
            del left[key]
        if len(again) < FEWEST:
            again.clear()  # a call each tells it sooner than another batch
        self._report(batch, state, len(rows), strange, len(again))
        return again

    def _settle(self, batch: Batch, prices: Sequence[float | None], lost: Sequence[JudgeRequest]) -> None:
        """A batch has ended, with replies of these prices."""
        self._spending.note(prices, spent=batch.worst is None)
        if batch.worst is not None:
            spent = sum(price or 0.0 for price in prices)
            spent += sum(self._at_most(request) for request in lost)
            self._spending.release(batch.worst, spent)

    def _at_most(self, request: JudgeRequest) -> float:
        return at_most(as_sent(self._judge, request), self._price) if self._price else 0.0

    def _reply(self, request: JudgeRequest, batch: Batch, line: Line) -> JudgeReply | Literal["again", "directly"]:
        """A line's reply, at the price of batches; or how to ask again."""
        import openai

        try:
            reply = self._judge.reply_of(request, batch.refused, line)
        except (openai.OpenAIError, ValueError):
            return "directly"
        if reply is None:
            refused = tuple(dict.fromkeys((*batch.refused, *self._refused)))
            if self._judge.body_of(request, refused) == self._judge.body_of(request, batch.refused):
                self._refused.append(self._judge.refusal_of(line))
            return "again"
        counted = self._price is not None and reply.prompt_tokens + reply.completion_tokens > 0
        price = self._price.of(reply.prompt_tokens, reply.completion_tokens) if self._price and counted else None
        return reply.model_copy(update={"price": price})

    def _report(self, batch: Batch, state: State | None, answered: int, strange: int, again: int) -> None:
        if state is None:
            self._tell(f"the server doesn't know batch {batch.batch}; its requests are asked directly")
            return
        reason = f" ({printable(state.reason, 200)})" if state.reason else ""
        lines = f"; {strange:,} lines of its results can't be read or belong to no request" if strange else ""
        rest = len(batch.keys) - answered
        how = f"in another batch, for {again:,}, or directly" if again else "directly"
        text = f"batch {batch.batch} is {state.status}{reason}: {answered:,} of {len(batch.keys):,} replies{lines}"
        if rest or strange:
            self._tell(text + (f"; the rest is asked again {how}" if rest else ""))
        else:
            _log.info("%s: %s", self._who, text)

    def _end(self, batch: Batch, how: str, settled: Collection[str]) -> None:
        """Note that a batch has ended, unless it holds replies to requests that nobody has asked for now."""
        if all(key in settled for key in batch.keys):
            self._records.ended(batch.token, how)

    def _leave(self, under_way: Sequence[Batch], *, told: bool) -> None:
        for batch in under_way:
            if batch.worst is not None:
                self._spending.release(batch.worst, batch.worst)
        if under_way and told:
            names = ", ".join(batch.batch for batch in under_way)
            self._tell(f"batch {names} stays under way on the server; the same command goes on with it")

    def _tell(self, text: str) -> None:
        _log.warning("%s: %s", self._who, printable(text))
