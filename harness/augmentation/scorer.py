"""Scores of a reward model: every score is stored, and never computed again.

A score's key is the SHA-256 of (the key of the stage that prepared the reward model, the prompt, the response): N=5
after N=2 scores only what is new, and a killed run resumes. Models whose scores depend on a prompt's other responses
(`groupwise`) are always run again; their parts' scores and their judge's replies are stored. A response that could not
be scored is stored as such; a judge that is down raises instead.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.engine.journal import content_key
from harness.engine.shards.journal import ShardJournal
from harness.judging.asker import make_ask
from harness.protocols import Judge, Ready
from harness.recipe.launch import Launch
from harness.servers.spending import Spending
from harness.training.passes import reward_scores
from harness.types import Advance, Ask, JudgeReply, JudgeRequest, Messages, Record

CONCURRENCY = 16
"""Concurrent requests to a judge that rates responses."""


class Score(Record):
    """A journal's row; None: could not be scored."""

    score: float | None


class Scorer:
    """A `ScoreRows` of a reward model that its stage has prepared in `folder`. `parts`: the scorers of the reward
    models that it combines. `journals`: the folder of the journals. `key`: that of the stage that prepared it.
    `launch`: processes that share its batches; `partial`: a folder for their files. `shard`: the bits of the running
    shard (`harness.engine.shards`)."""

    def __init__(
        self,
        model: Any,
        folder: Path,
        *,
        key: str,
        journals: Path,
        advance: Advance,
        parts: Sequence["Scorer"] = (),
        spending: Spending | None = None,
        launch: Launch | None = None,
        partial: Path | None = None,
        shard: str = "",
    ) -> None:
        self.model = model
        self.parts = tuple(parts)
        self._advance = advance
        self._journals = journals
        self._key = key
        self._launch = launch
        self._partial = partial or folder
        self._spending = spending or Spending()
        self._shard = shard
        path = journals / "scores" / f"scores-{key[:16]}.jsonl"
        self._journal = ShardJournal(path, shard, Score, column="scored")
        self.ready = Ready(folder, advance, self._ask, self.parts)

    def __call__(self, rows: Sequence[tuple[Messages, str]]) -> list[float | None]:
        if self.model.groupwise:
            return list(self.model.score(rows, self.ready))
        keys = [content_key([self._key, [m.model_dump() for m in messages], text]) for messages, text in rows]
        stored = self._journal.rows(keys)
        missing = {key: i for i, key in enumerate(keys) if key not in stored}
        self._advance(len(keys) - len(missing))  # stored, or the same as another row
        if missing:
            self._score([rows[i] for i in missing.values()], list(missing))
        stored = self._journal.rows(keys)
        return [stored[key].score for key in keys]

    def items(self, rows: int) -> int | None:
        """The number of items on the progress bar for `rows` rows; None if it depends on the prompts."""
        if self.parts:
            counts = [part.items(rows) for part in self.parts]
            return None if None in counts else sum(n for n in counts if n is not None)
        return None if self.model.groupwise else rows

    def _score(self, rows: Sequence[tuple[Messages, str]], keys: Sequence[str]) -> None:
        def keep(scored: Sequence[tuple[int, float | None]]) -> None:
            self._journal.append([(keys[i], Score(score=score)) for i, score in scored])

        ready = Ready(self.ready.folder, self._advance, self._ask, self.parts, keep)
        scores = reward_scores(self.model, rows, ready, self._launch, self._partial)
        self._journal.append((key, Score(score=score)) for key, score in zip(keys, scores, strict=True))

    def _ask(self, judge: Judge) -> Ask:
        path = self._journals / f"verdicts-{content_key(judge.identity())[:16]}.jsonl"
        asker = make_ask(
            judge,
            path,
            concurrency=CONCURRENCY,
            advance=self._advance,
            price=judge.token_price(self._spending.table),
            spending=self._spending,
            shard=self._shard,
        )

        def ask(requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
            replies = asker(requests)
            asker.require_replies("the judge of the reward model")
            return replies

        return Ask(ask)
