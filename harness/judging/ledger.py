"""What the replies of judges add up to: counts, tokens and dollars."""

from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from harness.servers.replies import answering
from harness.types import JudgeReply, Record


class Ledger(Record):
    """Counts and costs of replies. `asked`: answered by the judge now; `from_journal`: answered earlier; `failed`:
    without a reply; `transient`: failed requests that may succeed later. `unreadable`: replies that could not be read,
    each requested again if `retries_invalid` allows it, and `unreadable_dollars` their cost. `faults`: failed calls, by
    kind, including those that succeeded on a retry; a time-out, a broken connection or a broken reply may have been
    charged, which only the server's bill shows. `models`: replies by the model that the server says has answered, with
    its fingerprint. `adapted`: by how their requests were changed for the server. Tokens and `dollars` cover all
    replies, old and new, readable or not; `dollars_now` only new ones. None if a reply's price is unknown."""

    asked: int = 0
    from_journal: int = 0
    failed: int = 0
    transient: int = 0
    unreadable: int = 0
    faults: dict[str, int] = Field(default_factory=dict)
    models: dict[str, int] = Field(default_factory=dict)
    adapted: dict[str, int] = Field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float | None = 0.0
    dollars_now: float | None = 0.0
    unreadable_dollars: float | None = 0.0


def total(before: float | None, replies: Sequence[JudgeReply]) -> float | None:
    prices = [r.price for r in replies]
    amounts = [p for p in prices if p is not None]
    return None if before is None or len(amounts) < len(prices) else before + sum(amounts)


def entered(before: Ledger, journaled: Sequence[JudgeReply], new: Sequence[JudgeReply]) -> Ledger:
    """A ledger with more replies: those that were in the journal, and new ones, some of which failed."""
    answered = [reply for reply in new if reply.error is None]
    replies = [*journaled, *answered]
    faults = Counter(before.faults) + Counter(fault for reply in [*journaled, *new] for fault in reply.faults)
    models = Counter(before.models) + Counter(filter(None, (answering(r.model, r.fingerprint) for r in replies)))
    adapted = Counter(before.adapted) + Counter(how for reply in replies for how in reply.adapted)
    return before.model_copy(
        update={
            "asked": before.asked + len(answered),
            "from_journal": before.from_journal + len(journaled),
            "failed": before.failed + len(new) - len(answered),
            "transient": before.transient + sum(reply.transient for reply in new),
            "faults": dict(sorted(faults.items())),
            "models": dict(sorted(models.items())),
            "adapted": dict(sorted(adapted.items())),
            "prompt_tokens": before.prompt_tokens + sum(r.prompt_tokens for r in replies),
            "completion_tokens": before.completion_tokens + sum(r.completion_tokens for r in replies),
            "dollars": total(before.dollars, replies),
            "dollars_now": total(before.dollars_now, answered),
        }
    )


def with_unreadable(before: Ledger, replies: Sequence[JudgeReply]) -> Ledger:
    """A ledger with more replies that could not be read."""
    return before.model_copy(
        update={
            "unreadable": before.unreadable + len(replies),
            "unreadable_dollars": total(before.unreadable_dollars, replies),
        }
    )
