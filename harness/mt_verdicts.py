"""MT-bench's verdicts: ratings of turns, or choices between two answers to them, and the figures made of them."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from harness.mt_prompts import (
    PAIR,
    RATINGS,
    WINNERS,
    Item,
    has_probabilities,
    pair_request,
    parse_rating,
    parse_winner,
    rating_request,
    template_name,
    unread_rating,
    unread_winner,
    weights,
)
from harness.stats import mean_metric
from harness.types import Answer, Ask, JudgeReply, JudgeRequest, Metric, Verdict, ask_readable

Templates = Mapping[str, Mapping[str, Any]]
Asked = Sequence[tuple[str, Item]]
"""(id of the question or of a further sample of it, the question), in order."""
_CHOSEN = (1.0, 0.0, 0.5)
"""What assistant A gets for each of WINNERS."""


def _whole(answers: Sequence[Answer], asked: Asked) -> dict[str, tuple[str, ...]]:
    """The turns of answers that have all turns of their question."""
    given = {a.question_id: a.turns for a in answers}
    return {key: given[key] for key, item in asked if len(given.get(key, ())) >= len(item.turns)}


def ratings(templates: Templates, asked: Asked, answers: Sequence[Answer], ask: Ask) -> list[Verdict]:
    """One rating a turn, in order."""
    given = _whole(answers, asked)
    places = [(key, item, turn) for key, item in asked for turn in range(1, len(item.turns) + 1)]
    requests = {
        (key, turn): rating_request(templates, item, given[key], turn) for key, item, turn in places if key in given
    }
    replies = dict(zip(requests, ask_readable(ask, list(requests.values()), unread_rating), strict=True))
    return [_rating(*place, requests.get((place[0], place[2])), replies.get((place[0], place[2]))) for place in places]


def _rating(key: str, item: Item, turn: int, request: JudgeRequest | None, reply: JudgeReply | None) -> Verdict:
    if request is None or reply is None:
        return Verdict(question_id=key, turn=turn, category=item.category, value=None, invalid="no answer")
    value, invalid, source = None, reply.error, None
    if invalid is None and has_probabilities(reply):
        source = "probabilities"
        value = sum(w * rating for rating, w in enumerate(weights(reply, RATINGS), start=1))
    elif invalid is None:
        source = "text"
        value, invalid = parse_rating(reply.text)
    return Verdict(
        question_id=key,
        turn=turn,
        category=item.category,
        value=value,
        invalid=invalid,
        prompt=request.messages[-1].content,
        reply=reply.text,
        detail={
            "rating_from": source,
            "template": template_name(item, turn),
            "logprobs": reply.logprobs,
            "price": reply.price,
        },
    )


def comparisons(
    templates: Templates, asked: Asked, answers: Sequence[Answer], reference: Sequence[Answer], ask: Ask
) -> list[Verdict]:
    """One choice a turn, in order, from two games: the row as assistant A, then as B. The same text as the reference's
    is a tie without asking."""
    given, against = _whole(answers, asked), _whole(reference, asked)
    places = [(key, item, turn) for key, item in asked for turn in range(1, len(item.turns) + 1)]
    requests: dict[tuple[str, int, int], JudgeRequest] = {}
    for key, item, turn in places:
        if key in given and key in against and given[key][:turn] != against[key][:turn]:
            for game, pair in enumerate(((given[key], against[key]), (against[key], given[key]))):
                requests[key, turn, game] = pair_request(templates, item, *pair, turn)
    replies = dict(zip(requests, ask_readable(ask, list(requests.values()), unread_winner), strict=True))
    verdicts = []
    for key, item, turn in places:
        if key not in given or key not in against:
            missing = "no answer" if key not in given else "no reference answer"
            verdicts.append(Verdict(question_id=key, turn=turn, category=item.category, value=None, invalid=missing))
            continue
        games = [(requests.get((key, turn, g)), replies.get((key, turn, g))) for g in (0, 1)]
        verdicts.append(_comparison(key, item, turn, games))
    return verdicts


def _comparison(
    key: str, item: Item, turn: int, games: Sequence[tuple[JudgeRequest | None, JudgeReply | None]]
) -> Verdict:
    fixed: dict[str, Any] = {"question_id": key, "turn": turn, "category": item.category}
    (first, one), (second, two) = games
    if first is None or second is None or one is None or two is None:
        return Verdict(**fixed, value=0.5, detail={"asked": False})
    found = [_chosen(one), _chosen(two)]
    by_probabilities = all(has_probabilities(reply, WINNERS) for reply in (one, two))
    invalid = next((why for _, why in found if why is not None), None)
    value = None
    if invalid is None:
        # In the second game the row is assistant B.
        own, other = float(found[0][0] or 0), 1 - float(found[1][0] or 0)
        value = (own + other) / 2 if by_probabilities else own if own == other else 0.5
    return Verdict(
        **fixed,
        value=value,
        invalid=invalid,
        prompt=first.messages[-1].content,
        reply=one.text,
        detail={
            "template": template_name(item, turn, PAIR),
            "second_prompt": second.messages[-1].content,
            "second_reply": two.text,
            "games": [chosen for chosen, _ in found],
            "price": None if one.price is None or two.price is None else one.price + two.price,
        },
    )


def _chosen(reply: JudgeReply) -> tuple[float | None, str | None]:
    """What assistant A gets, or why that is not known."""
    if reply.error is not None:
        return None, reply.error
    if has_probabilities(reply, WINNERS):
        return sum(w * x for w, x in zip(weights(reply, WINNERS), _CHOSEN, strict=True)), None
    return parse_winner(reply.text)


def figures(verdicts: Sequence[Verdict], *, pairwise: bool) -> dict[str, Metric]:
    """Means over all turns, by turn and by category. Samples of a question are averaged first: a question weighs the
    same however often it was sampled."""
    parts: dict[str, list[Verdict]] = {"win_rate" if pairwise else "score": list(verdicts)}
    for turn in sorted({v.turn for v in verdicts if v.turn is not None}):
        parts[f"turn_{turn}"] = [v for v in verdicts if v.turn == turn]
    for category in dict.fromkeys(v.category for v in verdicts if v.category is not None):
        parts[category] = [v for v in verdicts if v.category == category]
    found = {name: _mean(part, 100 if pairwise else 1) for name, part in parts.items()}
    if pairwise:
        scored = [v.value for v in verdicts if v.value is not None]
        counts = {
            "wins": sum(x > 0.5 for x in scored),
            "ties": sum(x == 0.5 for x in scored),
            "losses": sum(x < 0.5 for x in scored),
        }
        invalid = len(verdicts) - len(scored)
        found |= {
            name: Metric(value=float(count) if scored else None, n=len(scored), n_invalid=invalid)
            for name, count in counts.items()
        }
    return found


def _mean(verdicts: Sequence[Verdict], scale: float) -> Metric:
    turns: dict[tuple[str, int | None], list[float | None]] = {}
    for v in verdicts:
        turns.setdefault((v.question_id.split("#")[0], v.turn), []).append(v.value)
    known = [[x for x in values if x is not None] for values in turns.values()]
    means = [fmean(values) if values else None for values in known]
    found = mean_metric(means, groups=[question for question, _ in turns], scale=scale)
    return found.model_copy(update={"n_invalid": sum(v.value is None for v in verdicts)})
