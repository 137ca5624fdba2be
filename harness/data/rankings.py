"""Reads a row of a ranked dataset (`messages`, `responses` with scores) as a seed pair that keeps the whole ranking."""

from typing import Any

from pydantic import ValidationError

from harness.data.conversations import Unreadable
from harness.types import Message, PreferencePair, Response, prompt_id

CHOSEN, REJECTED = "seed:chosen", "seed:rejected"
"""The sources of a ranking's best and worst response, as of a pair's two answers."""


def is_ranking(row: dict[str, Any]) -> bool:
    """Whether a row is one of a ranked dataset, as `harness import` and a run's dataset have them."""
    responses = row.get("responses")
    return "chosen" not in row and isinstance(row.get("messages"), list) and isinstance(responses, list)


def ranking_pair(row: dict[str, Any], source: str) -> PreferencePair:
    """The pair of the best and the worst response, with all scored ones, best first. If all scores are tied, or fewer
    than two responses have one, both answers of the pair are the same text. Raises Unreadable."""
    try:
        messages = tuple(Message.model_validate(message) for message in row["messages"])
        responses = [Response.model_validate({**r, "rank": None}) for r in row["responses"]]
    except (ValidationError, TypeError) as error:
        detail = str(error)
        if isinstance(error, ValidationError):
            wrong = error.errors()[0]
            detail = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
        raise Unreadable(f"{detail}; expected a ranked dataset's row: messages, responses") from None
    if not messages or messages[-1].role != "user" or not all(m.content.strip() for m in messages):
        raise Unreadable("messages: expected a conversation that ends with the user's message")
    scored = sorted((r for r in responses if r.score is not None), key=lambda r: -(r.score or 0.0))
    if not scored:
        raise Unreadable("responses: none has a score; expected at least two with one")
    best, worst = scored[0], scored[-1]
    if best.score == worst.score:
        worst = best
    first, *between, last = scored if len(scored) > 1 else [best, worst]
    sources = (CHOSEN, REJECTED)
    ranking = [
        first.model_copy(update={"source": CHOSEN}),
        *(r.model_copy(update={"source": f"imported:{r.source}"}) if r.source in sources else r for r in between),
        last.model_copy(update={"source": REJECTED}),
    ]
    return PreferencePair(
        id=prompt_id(messages),
        messages=messages,
        chosen=best.text,
        rejected=worst.text,
        source=source,
        category=row["category"] if isinstance(row.get("category"), str) else None,
        responses=tuple(ranking) if len(ranking) > 2 else (),
    )
