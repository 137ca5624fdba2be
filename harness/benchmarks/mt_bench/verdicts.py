"""MT-bench's verdicts, which are ratings of turns or choices between two answers to a turn, and their metrics."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from harness.benchmarks.mt_bench.prompts import (
    PAIR_TEMPLATES,
    RATING_REPLIES,
    WINNER_REPLIES,
    WINNER_VALUES,
    MtQuestion,
    choice_weights,
    has_probabilities,
    pair_request,
    rating_problem,
    rating_request,
    read_rating,
    read_winner,
    template_name,
    winner_problem,
)
from harness.servers.replies import answer_only, settled
from harness.stats.intervals import mean_metric
from harness.types import Answer, Ask, JudgeReply, JudgeRequest, Metric, Unread, Verdict

Templates = Mapping[str, Mapping[str, Any]]
Questions = Sequence[tuple[str, MtQuestion]]
"""(id of the question or of a further sample of it, the question), in order."""


def _complete_answers(answers: Sequence[Answer], questions: Questions) -> dict[str, tuple[str, ...]]:
    """Turns by question id, for answers to all turns of their question."""
    turns = {a.question_id: a.turns for a in answers}
    return {key: turns[key] for key, question in questions if len(turns.get(key, ())) >= len(question.turns)}


def _turns_of(questions: Questions) -> list[tuple[str, MtQuestion, int]]:
    """(id, question, turn from 1) of every turn, in order."""
    return [(key, question, turn) for key, question in questions for turn in range(1, len(question.turns) + 1)]


def rating_verdicts(templates: Templates, questions: Questions, answers: Sequence[Answer], ask: Ask) -> list[Verdict]:
    """One rating per turn, in order."""
    complete, turns = _complete_answers(answers, questions), _turns_of(questions)
    requests = {
        (key, turn): rating_request(templates, question, complete[key], turn)
        for key, question, turn in turns
        if key in complete
    }
    replies = dict(zip(requests, _answers(ask, list(requests.values()), rating_problem), strict=True))
    return [
        _rating(key, question, turn, requests.get((key, turn)), replies.get((key, turn)))
        for key, question, turn in turns
    ]


def _answers(ask: Ask, requests: Sequence[JudgeRequest], problem: Unread) -> list[JudgeReply]:
    """The judge's replies, without its thoughts."""
    return [answer_only(reply) for reply in settled(ask.readable(requests, problem))]


def _rating(
    key: str, question: MtQuestion, turn: int, request: JudgeRequest | None, reply: JudgeReply | None
) -> Verdict:
    if request is None or reply is None:
        return Verdict(question_id=key, turn=turn, category=question.category, value=None, invalid="no answer")
    value, invalid, source = None, reply.error, None
    if invalid is None and has_probabilities(reply):
        source = "probabilities"
        value = sum(w * rating for rating, w in enumerate(choice_weights(reply, RATING_REPLIES), start=1))
    elif invalid is None:
        source = "text"
        value, invalid = read_rating(reply)
    return Verdict(
        question_id=key,
        turn=turn,
        category=question.category,
        value=value,
        invalid=invalid,
        prompt=request.messages[-1].content,
        reply=reply.text,
        detail={
            "rating_from": source,
            "template": template_name(question, turn),
            "logprobs": reply.logprobs,
            "price": reply.price,
            **({"thought": reply.thought} if reply.thought else {}),
        },
    )


def pair_verdicts(
    templates: Templates, questions: Questions, answers: Sequence[Answer], reference: Sequence[Answer], ask: Ask
) -> list[Verdict]:
    """One choice per turn, in order, from two games: the row as assistant A, then as B. A text that equals the
    reference's is a tie without asking."""
    ours, theirs = _complete_answers(answers, questions), _complete_answers(reference, questions)
    turns = _turns_of(questions)
    requests: dict[tuple[str, int, int], JudgeRequest] = {}
    for key, question, turn in turns:
        if key in ours and key in theirs and ours[key][:turn] != theirs[key][:turn]:
            for game, pair in enumerate(((ours[key], theirs[key]), (theirs[key], ours[key]))):
                requests[key, turn, game] = pair_request(templates, question, *pair, turn)
    replies = dict(zip(requests, _answers(ask, list(requests.values()), winner_problem), strict=True))
    verdicts = []
    for key, question, turn in turns:
        if key not in ours or key not in theirs:
            missing = "no answer" if key not in ours else "no reference answer"
            verdicts.append(
                Verdict(question_id=key, turn=turn, category=question.category, value=None, invalid=missing)
            )
            continue
        games = [(requests.get((key, turn, g)), replies.get((key, turn, g))) for g in (0, 1)]
        verdicts.append(_choice(key, question, turn, games))
    return verdicts


def _choice(
    key: str, question: MtQuestion, turn: int, games: Sequence[tuple[JudgeRequest | None, JudgeReply | None]]
) -> Verdict:
    """The verdict on one turn from its two games (request, reply)."""
    fixed: dict[str, Any] = {"question_id": key, "turn": turn, "category": question.category}
    (first, one), (second, two) = games
    if first is None or second is None or one is None or two is None:
        return Verdict(**fixed, value=0.5, detail={"asked": False})
    scores = [_score_of_a(one), _score_of_a(two)]
    by_probabilities = all(has_probabilities(reply, WINNER_REPLIES) for reply in (one, two))
    invalid = next((problem for _, problem in scores if problem is not None), None)
    value = None
    if invalid is None:
        # In the second game the row is assistant B.
        as_a, as_b = float(scores[0][0] or 0), 1 - float(scores[1][0] or 0)
        value = (as_a + as_b) / 2 if by_probabilities else as_a if as_a == as_b else 0.5
    return Verdict(
        **fixed,
        value=value,
        invalid=invalid,
        prompt=first.messages[-1].content,
        reply=one.text,
        detail={
            "template": template_name(question, turn, PAIR_TEMPLATES),
            "second_prompt": second.messages[-1].content,
            "second_reply": two.text,
            "games": [score for score, _ in scores],
            "price": None if one.price is None or two.price is None else one.price + two.price,
            **({"thought": one.thought + two.thought} if one.thought + two.thought else {}),
        },
    )


def _score_of_a(reply: JudgeReply) -> tuple[float | None, str | None]:
    """(assistant A's score, None), or (None, the reason why it is unknown)."""
    if reply.error is not None:
        return None, reply.error
    if has_probabilities(reply, WINNER_REPLIES):
        weights = choice_weights(reply, WINNER_REPLIES)
        return sum(w * x for w, x in zip(weights, WINNER_VALUES, strict=True)), None
    return read_winner(reply)


def verdict_metrics(verdicts: Sequence[Verdict], *, pairwise: bool) -> dict[str, Metric]:
    """Means over all turns, by turn and by category. Samples of a question are averaged first, so that every question
    has the same weight however often it was sampled."""
    parts: dict[str, list[Verdict]] = {"win_rate" if pairwise else "score": list(verdicts)}
    for turn in sorted({v.turn for v in verdicts if v.turn is not None}):
        parts[f"turn_{turn}"] = [v for v in verdicts if v.turn == turn]
    for category in dict.fromkeys(v.category for v in verdicts if v.category is not None):
        parts[category] = [v for v in verdicts if v.category == category]
    metrics = {name: _mean(part, pairwise) for name, part in parts.items()}
    sources = [v.detail.get("rating_from") for v in verdicts if v.value is not None]
    if "probabilities" in sources and "text" in sources:  # the mean is of two kinds of ratings
        metrics["from_text"] = Metric(value=float(sources.count("text")), n=len(verdicts))
    if thoughts := sum(bool(v.detail.get("thought")) for v in verdicts):
        metrics["thoughts"] = Metric(value=float(thoughts), n=len(verdicts))
    if pairwise:
        scored = [v.value for v in verdicts if v.value is not None]
        counts = {
            "wins": sum(x > 0.5 for x in scored),
            "ties": sum(x == 0.5 for x in scored),
            "losses": sum(x < 0.5 for x in scored),
        }
        invalid = len(verdicts) - len(scored)
        metrics |= {
            name: Metric(value=float(count) if scored else None, n=len(scored), n_invalid=invalid)
            for name, count in counts.items()
        }
    return metrics


def _mean(verdicts: Sequence[Verdict], pairwise: bool) -> Metric:
    """The mean, with questions as units and their categories as strata: each is asked a fixed number of them."""
    turns: dict[tuple[str, int | None], list[float | None]] = {}
    categories: dict[tuple[str, int | None], str | None] = {}
    for v in verdicts:
        turn = v.question_id.split("#")[0], v.turn
        turns.setdefault(turn, []).append(v.value)
        categories[turn] = v.category
    scored = [[x for x in values if x is not None] for values in turns.values()]
    means = [fmean(values) if values else None for values in scored]
    metric = mean_metric(
        means,
        groups=[question for question, _ in turns],
        strata=list(categories.values()),
        limits=(0.0, 100.0) if pairwise else (0.0, 10.0),
        scale=100 if pairwise else 1,
    )
    return metric.model_copy(update={"n_invalid": sum(v.value is None for v in verdicts)})
