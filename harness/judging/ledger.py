"""What the replies of judges add up to: counts, tokens and dollars."""

from collections.abc import Sequence

from pydantic import Field

from harness.types import JudgeReply, Record


class Ledger(Record):
    """Counts and costs of replies. `asked`: answered by the judge now; `from_journal`: answered earlier; `failed`:
    without a reply; `transient`: failed requests that may succeed later. `unreadable`: replies that could not be read,
    each requested again if `retries_invalid` allows it, and `unreadable_dollars` their cost. `faults`: failed calls, by
    kind, including those that succeeded on a retry; a time-out, a broken connection or a broken reply may have been
    charged, which only the server's bill shows. `models`: replies by the model that the server says has answered, with
    its fingerprint. Tokens and `dollars` cover all replies, old and new, readable or not; `dollars_now` only new ones.
    None if a reply's price is unknown."""

    asked: int = 0
    from_journal: int = 0
    failed: int = 0
    transient: int = 0
    unreadable: int = 0
    faults: dict[str, int] = Field(default_factory=dict)
    models: dict[str, int] = Field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float | None = 0.0
    dollars_now: float | None = 0.0
    unreadable_dollars: float | None = 0.0


def total(before: float | None, replies: Sequence[JudgeReply]) -> float | None:
    prices = [r.price for r in replies]
    amounts = [p for p in prices if p is not None]
    return None if before is None or len(amounts) < len(prices) else before + sum(amounts)
