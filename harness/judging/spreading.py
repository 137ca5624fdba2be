"""A judge that is asked by the workers of a running stage: one that computes, here or on engines of its own.

A judge elsewhere only makes its stage wait, so one process with its `concurrency` asks it: then the run's limit on
costs holds to the call, and no more calls are under way than the recipe says. The cluster spreads no stage that asks
judges where a run has such a limit.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from harness.engine.shards.journal import ShardJournal
from harness.engine.shards.spool import Shard, dealt
from harness.engine.stage import Context
from harness.judging.asker import Asker, OnReply
from harness.protocols import Judge
from harness.servers.addressed import engines_of
from harness.types import JudgeReply, JudgeRequest, Price, Record


def computes(judge: Judge) -> bool:
    """Whether a judge needs the processors or GPUs of the nodes that ask it."""
    return bool(judge.models_in_process() or engines_of(judge)) or not judge.has_served_parts()


class _Asked(Record):
    """A request, and the key of its reply."""

    key: str
    request: JudgeRequest


class _Terms(NamedTuple):
    """How a worker asks. `again`: the progress bar has counted these requests before."""

    journal: Path
    concurrency: int
    price: Price | None
    again: bool = False


class SpreadAsker(Asker):
    """An `Asker` that leaves all requests without a reply to the workers of a stage, each with a journal of its own.
    They come back as they would have in one process, though a model in process may round differently in other
    batches."""

    def __init__(
        self, ctx: Context, judge: Judge, journal: Path, concurrency: int, retries_invalid: int, price: Price | None
    ) -> None:
        super().__init__(judge, journal, concurrency, ctx.progress.advance, retries_invalid, price, ctx.spending)
        self._ctx = ctx
        self._terms = _Terms(journal, concurrency, price)

    def _ask(
        self,
        missing: Mapping[str, JudgeRequest],
        times: Mapping[str, int],
        new: dict[str, JudgeReply],
        on_reply: OnReply,
    ) -> None:
        rows = ((key, _Asked(key=key, request=request)) for key, request in missing.items())
        with dealt(rows, self._ctx.folder, self._ctx.worker_count) as parts:
            work = partial(self._put, self._judge, self._terms._replace(again=not times))
            self._ctx.spread(work, parts.shards, more=True)  # of a panel's next member, or what can't be read
            new.update(zip(missing, parts.results(JudgeReply), strict=True))
        self._journal = ShardJournal(self._terms.journal, "", JudgeReply, column="reply")  # with what the workers wrote
        self._advance(sum(times.get(key, 0) - 1 for key in missing) if times else 0)  # those that ask the same
        self._outlook.see([(reply, on_reply(key, reply)) for key, reply in new.items()])

    @staticmethod
    def _put(judge: Judge, terms: _Terms, ctx: Context, shard: Shard) -> None:
        """A worker asks for a shard's replies."""
        requests = {row.key: row.request for row in shard.rows(_Asked)}
        asked_of, advance = (judge, terms.journal, terms.concurrency), ctx.progress.advance
        asker = Asker(*asked_of, advance, 0, terms.price, ctx.spending, ctx.shard)
        keys, first = list(requests), not terms.again
        replies = asker._replies_by_key(keys, [*requests.values()], lambda key, reply: None, first=first)
        shard.write(replies[key] for key in requests)
