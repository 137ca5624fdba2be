"""Scores of a reward model: what was scored is kept and never scored again.

A score's key is the SHA-256 of (the key of the stage that made the reward model ready, the prompt, the response): N=5
after N=2 scores what is new, and a run that was killed goes on. Models whose score depends on what stands beside a
response (`groupwise`) are asked anew; their parts' scores and their judge's replies are kept. A response that could not
be scored is kept as such: a judge that is down raises instead.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import JudgeError
from harness.journal import Journal, content_key
from harness.judging import make_ask
from harness.protocols import Ready
from harness.spending import Spending, price_of
from harness.types import Advance, Ask, JudgeReply, JudgeRequest, Messages, Record

CONCURRENCY = 16
"""Requests at once to a judge that rates responses."""


class Score(Record):
    """What a journal holds; None: could not be scored."""

    score: float | None


class Scorer:
    """A `ScoreRows` of a reward model that its stage has made ready in `folder`. `parts`: those of the reward models
    that it is made from. `journals`: folder of the journals. `key`: of the stage that made it ready."""

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
    ) -> None:
        self.model = model
        self.parts = tuple(parts)
        self._advance = advance
        self._journals = journals
        self._key = key
        self._spending = spending or Spending()
        self._journal = Journal(journals / "scores" / f"scores-{key[:16]}.jsonl", Score, column="scored")
        self.ready = Ready(folder, advance, self._ask, self.parts)

    def __call__(self, rows: Sequence[tuple[Messages, str]]) -> list[float | None]:
        if getattr(self.model, "groupwise", False):
            return list(self.model.score(rows, self.ready))
        keys = [content_key([self._key, [m.model_dump() for m in messages], text]) for messages, text in rows]
        known = self._journal.rows()
        missing = {key: place for place, key in enumerate(keys) if key not in known}
        self._advance(len(keys) - len(missing))  # known, or the same as another row
        if missing:
            self._score([rows[place] for place in missing.values()], list(missing))
        known = self._journal.rows()
        return [known[key].score for key in keys]

    def items(self, rows: int) -> int | None:
        """How many items a bar counts while so many rows are scored; None where that depends on the prompts."""
        if self.parts:
            counts = [part.items(rows) for part in self.parts]
            return None if None in counts else sum(n for n in counts if n is not None)
        return None if getattr(self.model, "groupwise", False) else rows

    def _score(self, rows: Sequence[tuple[Messages, str]], keys: Sequence[str]) -> None:
        def keep(scored: Sequence[tuple[int, float | None]]) -> None:
            self._journal.append([(keys[place], Score(score=score)) for place, score in scored])

        ready = Ready(self.ready.folder, self._advance, self._ask, self.parts, keep)
        scores = self.model.score(rows, ready)
        self._journal.append((key, Score(score=score)) for key, score in zip(keys, scores, strict=True))

    def _ask(self, judge: Any) -> Ask:
        path = self._journals / f"verdicts-{content_key(judge.identity())[:16]}.jsonl"
        asker = make_ask(
            judge,
            path,
            concurrency=CONCURRENCY,
            advance=self._advance,
            price=price_of(judge, self._spending.table),
            spending=self._spending,
        )

        def ask(requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
            replies = asker(requests)
            if asker.ledger.transient:
                why = next(r.error for r in replies if r.transient)
                raise JudgeError(
                    f"the judge of the reward model failed to answer {asker.ledger.transient} requests ({why}); "
                    "what it did answer is kept: run again"
                )
            return replies

        return ask
