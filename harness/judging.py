"""Asking a judge: the journal first, the judge for the rest, every reply on disk as it comes.

The journal (`harness.journal`) has one reply a line, keyed by the SHA-256 of (the judge's identity, the request), and
for a reply that was asked for anew because the one before it could not be read, the number of that attempt. What it
holds is never asked again, whoever wrote it; a failed call isn't written, so that the next run asks again.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from pydantic import Field

from harness import interrupts
from harness.errors import CostError
from harness.journal import Journal, content_key
from harness.pace import POLL, Stopped
from harness.spending import FREE, Price, Spending, Tab, at_most
from harness.types import Advance, JudgeReply, JudgeRequest, Record, Unread

Look = Callable[[str, JudgeReply], None]


class Ledger(Record):
    """What the replies came to. `asked`: had from the judge now; `from_journal`: had earlier; `failed`: asked in vain;
    `transient`: those of them that may be had by asking again. `unreadable`: replies that were had and could not be
    read, each asked for anew where `retries_invalid` allows it, and `unreadable_dollars` what they cost. `faults`:
    calls that failed on the way, by kind; a time-out, a broken connection or reply may have been charged, which only
    the server's bill can tell. Tokens and `dollars` cover every reply, whenever it was had, the unreadable ones
    included; `dollars_now` only those asked now. None where a reply's price isn't known."""

    asked: int = 0
    from_journal: int = 0
    failed: int = 0
    transient: int = 0
    unreadable: int = 0
    faults: dict[str, int] = Field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float | None = 0.0
    dollars_now: float | None = 0.0
    unreadable_dollars: float | None = 0.0


class Asker:
    """An `Ask` (see `harness.types`) over one judge and one journal. `ledger` sums up all calls so far."""

    def __init__(
        self,
        judge: Any,
        journal: Path,
        concurrency: int,
        advance: Advance,
        retries_invalid: int,
        price: Price | None,
        spending: Spending,
    ) -> None:
        self._judge = judge
        self._journal = Journal(journal, JudgeReply, column="reply")
        self._concurrency = concurrency
        self._advance = advance
        self._retries_invalid = retries_invalid if getattr(judge, "resamples", False) else 0
        self._price = price
        self._spending = spending
        self._takes_tab = getattr(judge, "takes_tab", False)
        self._identity = judge.identity()
        # What a judge doesn't read is no part of its keys.
        self._unkeyed = set[str]() if getattr(judge, "reads_candidates", False) else {"candidates"}
        self._commit_lock = threading.Lock()
        self.ledger = Ledger()

    def __call__(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """One reply a request, in order. Raises JudgeError where the judge can't be used at all, CostError where the
        run's limit would be passed; what was answered until then, or until Ctrl-C, is in the journal."""
        keys = [self._key(request, 0) for request in requests]
        had = self._had(keys, requests, lambda key, reply: None)
        return [had[key] for key in keys]

    def readable(self, requests: Sequence[JudgeRequest], why: Unread) -> list[JudgeReply]:
        """As a call, but a reply that can't be read (`why` says why) is asked for anew, up to `retries_invalid` times,
        by a judge that may then reply otherwise. Where none can be read the last one is returned."""
        reasons: dict[str, str | None] = {}

        def look(key: str, reply: JudgeReply) -> None:
            if key not in reasons:
                reasons[key] = None if reply.error is not None else why(reply)

        replies: list[JudgeReply] = []
        places = list(range(len(requests)))
        for attempt in range(self._retries_invalid + 1):
            keys = [self._key(requests[i], attempt) for i in places]
            had = self._had(keys, [requests[i] for i in places], look, first=attempt == 0)
            for key, reply in had.items():
                look(key, reply)
            found = [had[key] for key in keys]
            if attempt == 0:
                replies = found
            for i, reply in zip(places, found, strict=True):
                replies[i] = reply if reply.error is None else replies[i]
            places = [i for i, key in zip(places, keys, strict=True) if reasons[key] is not None]
            self._note_unreadable([reply for key, reply in had.items() if reasons[key] is not None])
        return replies

    def missing(self, requests: Sequence[JudgeRequest]) -> list[JudgeRequest]:
        """The requests that the journal doesn't answer."""
        journaled = self._journal.rows()
        return [request for request in requests if self._key(request, 0) not in journaled]

    def _key(self, request: JudgeRequest, attempt: int) -> str:
        # Of what changes nothing nothing is said, so that keys of a time without these fields hold.
        plain = {"sample"} if request.sample == 0 else set()
        unkeyed = self._unkeyed | plain | ({"top_p"} if request.top_p in (None, 1) else set())
        content: list[Any] = [self._identity, request.model_dump(mode="json", exclude=unkeyed)]
        return content_key([*content, {"attempt": attempt}] if attempt else content)

    def _had(
        self, keys: Sequence[str], requests: Sequence[JudgeRequest], look: Look, *, first: bool = True
    ) -> dict[str, JudgeReply]:
        """The replies by key. `look` is shown those that are asked for now, while others are on their way. `first`: not
        asked for anew, so that the bar has not counted them yet."""
        times = Counter(keys) if first else Counter()
        journaled = self._journal.rows()
        known = {key: journaled[key] for key in keys if key in journaled}
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        self._advance(sum(times[key] for key in known))
        asked: dict[str, JudgeReply] = {}
        try:
            if missing:
                self._ask(missing, times, asked, look)
        finally:
            self._enter(known, asked)
        return known | asked

    def _ask(
        self,
        missing: Mapping[str, JudgeRequest],
        times: Mapping[str, int],
        asked: dict[str, JudgeReply],
        look: Look,
    ) -> None:
        """Ask for all that is missing; replies end up in the journal and in `asked`."""
        limit = self._spending.limit
        if limit is not None and (self._price is None or not self._takes_tab) and self._price != FREE:
            raise CostError(f"--max-cost {limit:g} can't be kept: {unpriced(self._judge)}")
        arrived: SimpleQueue[tuple[str, JudgeReply]] = SimpleQueue()
        stop = threading.Event()

        def reply_to(keys: Sequence[str]) -> None:
            rows = list(zip(keys, self._replies([missing[key] for key in keys], stop), strict=True))
            for row in rows:
                arrived.put(row)
            self._commit(arrived, asked, times)
            for key, reply in rows:
                look(key, reply)

        batch_size = getattr(self._judge, "batch_size", None)
        if batch_size is None:
            in_threads(reply_to, list(missing), self._concurrency, stop)
            return
        # Longest first, so that a batch holds prompts of like length and the largest comes at once.
        order = sorted(missing, key=lambda key: sum(len(m.content) for m in missing[key].messages), reverse=True)
        for start in range(0, len(order), batch_size):
            reply_to(order[start : start + batch_size])

    def _replies(self, requests: Sequence[JudgeRequest], stop: threading.Event) -> list[JudgeReply]:
        """The judge's replies with their prices, entered in what the run has spent."""
        if not self._takes_tab:
            replies = [self._priced(reply) for reply in self._judge.reply(requests)]
            self._spending.note([r.price for r in replies if r.error is None], spent=True)
            return replies
        (request,) = requests
        worst = at_most(request, self._price) if self._spending.limit is not None and self._price else 0.0
        tab, price = Tab(self._spending, worst, stop), None
        try:
            replies = [self._priced(reply) for reply in self._judge.reply(requests, tab)]
            price = replies[0].price
        finally:
            tab.settle(price)
        self._spending.note([r.price for r in replies if r.error is None], spent=False)
        return replies

    def _priced(self, reply: JudgeReply) -> JudgeReply:
        counted = reply.prompt_tokens + reply.completion_tokens > 0
        if reply.price is not None or reply.error is not None or self._price is None or not counted:
            return reply
        return reply.model_copy(update={"price": self._price.of(reply.prompt_tokens, reply.completion_tokens)})

    def _commit(
        self,
        arrived: "SimpleQueue[tuple[str, JudgeReply]]",
        asked: dict[str, JudgeReply],
        times: Mapping[str, int],
    ) -> None:
        """Write all that has arrived: while one thread waits for the disk, the others' replies gather."""
        with self._commit_lock:
            rows = []
            try:
                while True:
                    rows.append(arrived.get_nowait())
            except Empty:
                pass
            good = [row for row in rows if row[1].error is None]
            if good:
                self._journal.append(good)
            asked.update(rows)
            if rows:
                self._advance(sum(times.get(key, 0) for key, _ in rows))

    def _enter(self, known: Mapping[str, JudgeReply], asked: Mapping[str, JudgeReply]) -> None:
        answered = [reply for reply in asked.values() if reply.error is None]
        had = [*known.values(), *answered]
        faults = Counter(self.ledger.faults)
        faults.update(fault for reply in [*known.values(), *asked.values()] for fault in reply.faults)
        before = self.ledger
        self.ledger = before.model_copy(
            update={
                "asked": before.asked + len(answered),
                "from_journal": before.from_journal + len(known),
                "failed": before.failed + len(asked) - len(answered),
                "transient": before.transient + sum(reply.transient for reply in asked.values()),
                "faults": dict(sorted(faults.items())),
                "prompt_tokens": before.prompt_tokens + sum(r.prompt_tokens for r in had),
                "completion_tokens": before.completion_tokens + sum(r.completion_tokens for r in had),
                "dollars": _total(before.dollars, had),
                "dollars_now": _total(before.dollars_now, answered),
            }
        )

    def _note_unreadable(self, replies: Sequence[JudgeReply]) -> None:
        before = self.ledger
        self.ledger = before.model_copy(
            update={
                "unreadable": before.unreadable + len(replies),
                "unreadable_dollars": _total(before.unreadable_dollars, replies),
            }
        )


def unpriced(judge: Any) -> str:
    """Why a judge's price isn't known, and what to do."""
    if not hasattr(judge, "model"):
        return f"judge '{judge.name}' has no single price; judge with one of its models"
    return (
        f"the price of {judge.model} is not known; set the judge's `price: {{input: ..., output: ...}}` (dollars per "
        "million tokens), or put the model into $HARNESS_HOME/prices.yaml"
    )


def in_threads(work: Callable[[Sequence[str]], None], keys: Sequence[str], threads: int, stop: threading.Event) -> None:
    """`work([key])` for every key, in as many threads. The first error, or Ctrl-C, sets `stop` and is raised once all
    calls under way have ended; a second Ctrl-C doesn't wait for them."""
    waiting: SimpleQueue[str] = SimpleQueue()
    for key in keys:
        waiting.put(key)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            while not stop.is_set():
                work([waiting.get_nowait()])
        except (Empty, Stopped):
            return
        except BaseException as error:
            errors.append(error)
            stop.set()

    started = [threading.Thread(target=run, name="judge", daemon=True) for _ in range(min(threads, len(keys)))]
    try:
        for thread in started:
            thread.start()
        for thread in started:
            while thread.is_alive():
                thread.join(POLL)
                interrupts.check()
    except BaseException:
        stop.set()
        for thread in started:
            if thread.ident is not None:
                thread.join()
        raise
    if errors:
        raise errors[0]


def _total(before: float | None, replies: Sequence[JudgeReply]) -> float | None:
    prices = [r.price for r in replies]
    known = [p for p in prices if p is not None]
    return None if before is None or len(known) < len(prices) else before + sum(known)


def make_ask(
    judge: Any,
    journal: Path,
    *,
    concurrency: int,
    advance: Advance,
    retries_invalid: int = 0,
    price: Price | None = None,
    spending: Spending | None = None,
) -> Asker:
    """An `Ask` for a judge component. A judge with a `batch_size` (a model in process) is given batches in this
    thread; a served one is called from `concurrency` threads, one request a call. `advance` gets the number of
    requests just finished, those found in the journal included. `price`: of replies that come without one. `spending`:
    what the whole run has spent, and may."""
    return Asker(judge, journal, concurrency, advance, retries_invalid, price, spending or Spending())
