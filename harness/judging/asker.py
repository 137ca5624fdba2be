"""Asking a judge: replies come from the journal, or else from the judge, and are written to disk as they arrive.

The journal (`harness.engine.journal`) has one reply per line, keyed by the SHA-256 of (the judge's identity, the
request). If a reply can't be read and is requested again, the key also includes the number of that attempt. A journaled
reply is never requested again, whoever wrote it. A failed call is not written, so the next run tries again.

A served judge's first calls are few (`harness.servers.adapting.opening`): if the server refuses all of them, or if none
of its replies can be read, the stage ends there and is not kept. The next run then asks again, as further attempts.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from harness.engine.journal import content_key
from harness.engine.shards.journal import ShardJournal
from harness.errors import CostError, JudgeError
from harness.judging.batches.asking import FEWEST, Batches, Take
from harness.judging.ledger import Ledger, entered, with_unreadable
from harness.judging.outlook import Outlook
from harness.judging.threads import in_threads
from harness.protocols import Judge
from harness.servers.adapting.chatting import as_sent
from harness.servers.batches.batching import Batching
from harness.servers.prices import at_most
from harness.servers.spending import Spending, Tab
from harness.types import FREE, Advance, Ask, JudgeReply, JudgeRequest, Price, Unread

OnReply = Callable[[str, JudgeReply], str | None]
"""Called with the key and the reply of each request, as replies arrive. Returns why a reply can't be read."""


class Asker(Ask):
    """An `Ask` (see `harness.types`) over one judge and one journal. `ledger` sums all calls so far."""

    def __init__(
        self,
        judge: Judge,
        journal: Path,
        concurrency: int,
        advance: Advance,
        retries_invalid: int,
        price: Price | None,
        spending: Spending,
        shard: str = "",
    ) -> None:
        self._judge = judge
        self._path = journal
        self._journal = ShardJournal(journal, shard, JudgeReply, column="reply")
        self._concurrency = concurrency
        self._advance = advance
        self._retries_invalid = retries_invalid if judge.resamples else 0
        self._price = price
        self._spending = spending
        self._identity = judge.identity()
        # Fields that the judge doesn't read are not part of its keys.
        self._unkeyed = set[str]() if judge.reads_candidates else {"candidates"}
        self._commit_lock = threading.Lock()
        self._ahead = 0  # requests of batches that the progress bar has counted already
        self.ledger = Ledger()
        self._errors: dict[bool, str] = {}  # the first of a transient failure, and of another
        self._outlook = Outlook(judge)

    def __call__(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """One reply per request, in order. Raises JudgeError if the judge can't be used at all, CostError if the run's
        limit would be exceeded. Replies that arrived before that, or before Ctrl-C, are in the journal."""
        keys = [self._key(request, 0) for request in requests]
        replies = self._replies_by_key(keys, requests, lambda key, reply: None)
        for reply in replies.values():
            self._outlook.note(reply, None)
        return [replies[key] for key in keys]

    def readable(self, requests: Sequence[JudgeRequest], why: Unread) -> list[JudgeReply]:
        """Like a call, but a reply that can't be read (`why` gives the reason) is requested again, up to
        `retries_invalid` times, if the judge may reply differently. If none can be read, the last one is returned."""
        reasons: dict[str, str | None] = {}

        def classify(key: str, reply: JudgeReply) -> str | None:
            if key not in reasons:
                reasons[key] = None if reply.error is not None else why(reply)
                self._outlook.note(reply, reasons[key])
            return reasons[key]

        start = self._first_attempt(requests, why)
        replies: list[JudgeReply] = []
        pending = list(range(len(requests)))
        for attempt in range(start, start + self._retries_invalid + 1):
            keys = [self._key(requests[i], attempt) for i in pending]
            by_key = self._replies_by_key(keys, [requests[i] for i in pending], classify, first=attempt == start)
            for key, reply in by_key.items():
                classify(key, reply)
            latest = [by_key[key] for key in keys]
            if attempt == start:
                replies = latest
            for i, reply in zip(pending, latest, strict=True):
                replies[i] = reply if reply.error is None else replies[i]
            pending = [i for i, key in zip(pending, keys, strict=True) if reasons[key] is not None]
            unread = [reply for key, reply in by_key.items() if reasons[key] is not None]
            self.ledger = with_unreadable(self.ledger, unread)
        return replies

    def _first_attempt(self, requests: Sequence[JudgeRequest], why: Unread) -> int:
        """The attempt from which replies count. Where an earlier run ended since no reply could be read, its attempts
        don't: what was wrong may have been mended."""
        attempt = 0
        while self._judge.is_served and not self._outlook.readable:
            found = self._journal.rows([self._key(request, attempt) for request in requests]).values()
            if not found or any(why(reply) is None for reply in found):
                break
            attempt += self._retries_invalid + 1
        return attempt

    def require_replies(self, judge: str, about: str = "") -> None:
        """Raises JudgeError if requests failed that asking again may answer, or if a server failed on most of them:
        that is a wrong setting or a broken server, and what is finished is never judged again."""
        ledger = self.ledger
        answered = ledger.asked + ledger.from_journal
        self._outlook.require_readable(answered, about)
        count, do = f"{ledger.transient}", "run again"
        if not ledger.transient:
            if ledger.failed <= answered or not self._judge.is_served:
                return
            count, do = f"{ledger.failed} of {ledger.failed + answered}", "correct that and run again"
        raise JudgeError(
            f"{judge} failed to answer {count} requests{about} ({self._errors[ledger.transient > 0]}); "
            f"the replies that arrived are kept: {do}"
        )

    def missing(self, requests: Sequence[JudgeRequest]) -> list[JudgeRequest]:
        """The requests without a reply in the journal."""
        keys = [self._key(request, 0) for request in requests]
        journaled = self._journal.rows(keys)
        return [request for request, key in zip(requests, keys, strict=True) if key not in journaled]

    def _key(self, request: JudgeRequest, attempt: int) -> str:
        # Fields at their defaults are left out, so that keys from before these fields existed stay valid.
        default = {"sample"} if request.sample == 0 else set()
        default |= {"asks"} if request.asks == "choice" else set()
        default |= {"function"} if request.function is None else set()
        unkeyed = self._unkeyed | default | ({"top_p"} if request.top_p in (None, 1) else set())
        content: list[Any] = [self._identity, request.model_dump(mode="json", exclude=unkeyed)]
        return content_key([*content, {"attempt": attempt}] if attempt else content)

    def _replies_by_key(
        self, keys: Sequence[str], requests: Sequence[JudgeRequest], on_reply: OnReply, *, first: bool = True
    ) -> dict[str, JudgeReply]:
        """The replies by key. `on_reply` receives the new ones while others are still under way. `first`: this is the
        first attempt, so the progress bar has not counted these requests yet."""
        times = Counter(keys) if first else Counter()
        journaled = self._journal.rows(keys)
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in journaled}
        self._advance(sum(times[key] for key in journaled))
        new: dict[str, JudgeReply] = {}
        try:
            if missing:
                self._ask(missing, times, new, on_reply)
        finally:
            self._enter(journaled, new)
        return journaled | new

    def _ask(
        self,
        missing: Mapping[str, JudgeRequest],
        times: Mapping[str, int],
        new: dict[str, JudgeReply],
        on_reply: OnReply,
    ) -> None:
        """Ask for all missing replies; they are added to the journal and to `new`."""
        limit = self._spending.limit
        if limit is not None and (self._price is None or not self._judge.is_metered) and self._price != FREE:
            raise CostError(f"--max-cost {limit:g} can't be kept: {unpriced(self._judge)}")
        arrived: SimpleQueue[tuple[str, JudgeReply]] = SimpleQueue()
        stop = threading.Event()

        def take(rows: Sequence[tuple[str, JudgeReply]]) -> None:
            for row in rows:
                arrived.put(row)
            self._commit(arrived, new, times)
            self._outlook.see([(reply, on_reply(key, reply)) for key, reply in rows])

        if isinstance(self._judge, Batching) and (times or len(missing) >= FEWEST):  # not for a few unreadable replies
            missing = self._after_batches(self._judge, missing, take)

        def reply_to(keys: Sequence[str]) -> None:
            self._outlook.enter(stop)
            take(list(zip(keys, self._replies([missing[key] for key in keys], stop), strict=True)))

        batch_size = self._judge.requests_at_once
        if batch_size is None:
            in_threads(reply_to, list(missing), self._concurrency, stop)
            return
        # Longest first: batches hold prompts of similar length, and the largest batch comes first.
        order = sorted(missing, key=lambda key: sum(len(m.content) for m in missing[key].messages), reverse=True)
        for start in range(0, len(order), batch_size):
            reply_to(order[start : start + batch_size])

    def _after_batches(
        self, judge: Batching, missing: Mapping[str, JudgeRequest], take: Take
    ) -> Mapping[str, JudgeRequest]:
        """What is to be asked directly, after batches have brought what they can."""

        def ahead(executed: int) -> None:
            self._ahead += executed
            self._advance(executed)

        batches = Batches(judge, self._path, self._price, self._spending, ahead)
        ask = batches.ask if judge.mode == "batch" else batches.settle
        return ask(missing, take, self._journal.keys())

    def _replies(self, requests: Sequence[JudgeRequest], stop: threading.Event) -> list[JudgeReply]:
        """The judge's replies with their prices, which are added to the run's spending."""
        if not self._judge.is_metered:
            replies = [self._priced(reply) for reply in self._judge.reply(requests)]
            self._spending.note([r.price for r in replies if r.error is None], spent=True)
            return replies
        (request,) = requests
        sent = as_sent(self._judge, request)
        worst = at_most(sent, self._price) if self._spending.limit is not None and self._price else 0.0
        tab, price = Tab(self._spending, worst, stop), None
        try:
            reply = self._priced(self._judge.metered_reply(request, tab))
            price = reply.price
        finally:
            tab.settle(price)
        self._spending.note([reply.price] if reply.error is None else [], spent=False)
        return [reply]

    def _priced(self, reply: JudgeReply) -> JudgeReply:
        counted = reply.prompt_tokens + reply.completion_tokens > 0
        if reply.price is not None or reply.error is not None or self._price is None or not counted:
            return reply
        return reply.model_copy(update={"price": self._price.of(reply.prompt_tokens, reply.completion_tokens)})

    def _commit(
        self,
        arrived: "SimpleQueue[tuple[str, JudgeReply]]",
        new: dict[str, JudgeReply],
        times: Mapping[str, int],
    ) -> None:
        """Write all replies that have arrived: while one thread waits for the disk, others' replies queue up."""
        with self._commit_lock:
            rows = []
            try:
                while True:
                    rows.append(arrived.get_nowait())
            except Empty:
                pass
            good = [row for row in rows if row[1].error is None]
            if good:
                # A served judge's replies don't depend on each other: each one that was paid for counts.
                self._journal.append(good, together=self._judge.requests_at_once is not None)
            new.update(rows)
            if rows:
                done = sum(times.get(key, 0) for key, _ in rows)
                told = min(done, self._ahead)
                self._ahead -= told
                self._advance(done - told)

    def _enter(self, journaled: Mapping[str, JudgeReply], new: Mapping[str, JudgeReply]) -> None:
        """Add replies to the ledger."""
        for reply in new.values():
            if reply.error is not None:
                self._errors.setdefault(reply.transient, reply.error)
        self.ledger = entered(self.ledger, list(journaled.values()), list(new.values()))


def unpriced(judge: Judge) -> str:
    """Why a judge's price is unknown, and what to do."""
    if judge.model_name is None:
        return f"judge '{judge.name}' has no single price; use one of its models as the judge"
    return (
        f"the price of {judge.model_name} is not known; set the judge's `price: {{input: ..., output: ...}}` (dollars "
        "per million tokens), or add the model to $HARNESS_HOME/prices.yaml"
    )


def make_ask(
    judge: Judge,
    journal: Path,
    *,
    concurrency: int,
    advance: Advance,
    retries_invalid: int = 0,
    price: Price | None = None,
    spending: Spending | None = None,
    shard: str = "",
) -> Asker:
    """An `Ask` for a judge component. A judge with `requests_at_once` (a model in process) gets batches, in this
    thread; a served one is called from `concurrency` threads, one request per call. `advance` is called with the number
    of requests just finished, including those answered from the journal. `price`: of replies that come without one.
    `spending`: the whole run's spending and limit. `shard`: the bits of the running shard
    (`harness.engine.shards`)."""
    return Asker(judge, journal, concurrency, advance, retries_invalid, price, spending or Spending(), shard)
