"""Asking a judge: the journal first, the judge for the rest, every reply on disk as it comes.

The journal (`harness.journal`) has one reply a line, keyed by the SHA-256 of (the judge's identity, the request). What
it holds is never asked again, whoever wrote it; a failed reply isn't written, so that the next run asks again.
"""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from harness.journal import Journal, content_key
from harness.types import Advance, JudgeReply, JudgeRequest, Record


class Ledger(Record):
    """What the replies that were used came to. `asked`: had from the judge now; `from_journal`: had earlier; `failed`:
    asked in vain; `transient`: those of them that may be had by asking again. Tokens and `dollars` cover every reply
    used, whenever it was had; `dollars_now` only those asked now. None where a reply's price isn't known."""

    asked: int = 0
    from_journal: int = 0
    failed: int = 0
    transient: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float | None = 0.0
    dollars_now: float | None = 0.0


class Asker:
    """An `Ask` (see `harness.types`) over one judge and one journal. `ledger` sums up all calls so far."""

    def __init__(self, judge: Any, journal: Path, concurrency: int, advance: Advance) -> None:
        self._judge = judge
        self._journal = Journal(journal, JudgeReply, column="reply")
        self._concurrency = concurrency
        self._advance = advance
        self._identity = judge.identity()
        # What a judge doesn't read is no part of its keys.
        self._unread = frozenset[str]() if getattr(judge, "reads_candidates", False) else frozenset({"candidates"})
        self._commit_lock = threading.Lock()
        self.ledger = Ledger()

    def __call__(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """One reply a request, in order. Raises JudgeError where the judge can't be used at all; what was answered
        until then, or until Ctrl-C, is in the journal."""
        keys = [self._key(request) for request in requests]
        times = Counter(keys)
        journaled = self._journal.rows()
        known = {key: journaled[key] for key in times if key in journaled}
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        self._advance(sum(times[key] for key in known))
        asked = self._ask(missing, times) if missing else {}
        self._enter(known, asked)
        return [known[key] if key in known else asked[key] for key in keys]

    def _key(self, request: JudgeRequest) -> str:
        return content_key([self._identity, request.model_dump(mode="json", exclude=self._unread)])

    def _ask(self, missing: Mapping[str, JudgeRequest], times: Mapping[str, int]) -> dict[str, JudgeReply]:
        arrived: SimpleQueue[tuple[str, JudgeReply]] = SimpleQueue()
        asked: dict[str, JudgeReply] = {}

        def reply_to(keys: Sequence[str]) -> None:
            replies = self._judge.reply([missing[key] for key in keys])
            for row in zip(keys, replies, strict=True):
                arrived.put(row)
            self._commit(arrived, asked, times)

        batch_size = getattr(self._judge, "batch_size", None)
        if batch_size is not None:
            # Longest first, so that a batch holds prompts of like length and the largest comes at once.
            order = sorted(missing, key=lambda key: sum(len(m.content) for m in missing[key].messages), reverse=True)
            for start in range(0, len(order), batch_size):
                reply_to(order[start : start + batch_size])
            return asked
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="judge")
        try:
            futures = [pool.submit(reply_to, [key]) for key in missing]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        finally:
            # Calls under way still end up in the journal: their threads are waited for when the process exits.
            pool.shutdown(wait=False, cancel_futures=True)
        return asked

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
                self._advance(sum(times[key] for key, _ in rows))

    def _enter(self, known: Mapping[str, JudgeReply], asked: Mapping[str, JudgeReply]) -> None:
        answered = [reply for reply in asked.values() if reply.error is None]
        used = [*known.values(), *answered]
        before = self.ledger
        self.ledger = Ledger(
            asked=before.asked + len(answered),
            from_journal=before.from_journal + len(known),
            failed=before.failed + len(asked) - len(answered),
            transient=before.transient + sum(reply.transient for reply in asked.values()),
            prompt_tokens=before.prompt_tokens + sum(r.prompt_tokens for r in used),
            completion_tokens=before.completion_tokens + sum(r.completion_tokens for r in used),
            dollars=_total(before.dollars, used),
            dollars_now=_total(before.dollars_now, answered),
        )


def _total(before: float | None, replies: Sequence[JudgeReply]) -> float | None:
    prices = [r.price for r in replies]
    known = [p for p in prices if p is not None]
    return None if before is None or len(known) < len(prices) else before + sum(known)


def make_ask(judge: Any, journal: Path, *, concurrency: int, advance: Advance) -> Asker:
    """An `Ask` for a judge component. A judge with a `batch_size` (a model in process) is given batches in this
    thread; a served one is called from `concurrency` threads, one request a call. `advance` gets the number of
    requests just finished, those found in the journal included."""
    return Asker(judge, journal, concurrency, advance)
