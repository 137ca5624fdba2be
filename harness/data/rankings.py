"""Rows that rank several responses to a prompt, in the layouts in which others publish them.

    harness         messages, responses: [{text, source, score}]
    simpo           prompt, all_generated_responses, all_rm_scores
    nemo-rl         context (messages), completions: [{rank (0 the best), completion (messages), reward}]
    nectar          prompt (a Human/Assistant transcript), answers: [{answer, model, rank (1 the best)}]
    ultrafeedback   instruction, completions: [{response, model, overall_score}]

A response without a score has the score None. Ranks without scores become their negatives, which carry only the order.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from harness.data.cells import answer_cell, is_number, messages_cell, score_cell
from harness.data.columns.contents import Unreadable
from harness.errors import DataError
from harness.printable import printable
from harness.types import Message, Messages, PreferencePair, Response, prompt_id

CHOSEN, REJECTED = "seed:chosen", "seed:rejected"
"""The sources of a ranking's best and worst response, as of a pair's two answers."""
IMPORTED = "imported"
"""The source of a response that no model is named for."""
Layout = Literal["harness", "simpo", "nemo-rl", "nectar", "ultrafeedback"]
TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
"""What begins a turn of Nectar's transcripts."""


class Ranking(NamedTuple):
    """A prompt and its responses, in the row's order."""

    messages: Messages
    responses: list[Response]
    category: str | None = None


def is_ranking(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of a ranked dataset, as `harness import` and a run's dataset have them."""
    responses = row.get("responses")
    return "chosen" not in row and isinstance(row.get("messages"), list) and isinstance(responses, list)


def layout_of(row: Mapping[str, Any]) -> Layout | None:
    """A row's layout; None if it ranks no responses."""
    if is_ranking(row):
        return "harness"
    if "all_generated_responses" in row:
        return "simpo"
    if "completions" in row:
        return "ultrafeedback" if "instruction" in row and "context" not in row else "nemo-rl"
    return "nectar" if "answers" in row else None


def read_ranking(row: Mapping[str, Any], layout: Layout, place: str) -> Ranking:
    """The ranking in a row. Raises DataError naming the row."""
    ranking = _READERS[layout](row, place)
    try:
        "".join([*(m.content for m in ranking.messages), *(r.text for r in ranking.responses)]).encode()
    except UnicodeEncodeError:
        raise DataError(f"{place}: expected text, got a lone surrogate") from None
    return ranking


def ranking_pair(ranking: Ranking, source: str, *, whole: bool) -> PreferencePair | None:
    """The pair of the best and the worst response; None if fewer than two have different scores. `whole`: with all
    responses, unscored ones last, each under its own source; otherwise with the scored ones, of which the best and the
    worst have the sources of a pair's answers, if there are more than two. Raises Unreadable."""
    if not all(m.content.strip() for m in ranking.messages):
        raise Unreadable("expected text in every message of the prompt, got an empty one")
    scored = sorted((r for r in ranking.responses if r.score is not None), key=lambda r: -(r.score or 0.0))
    if not scored or scored[0].score == scored[-1].score:
        return None
    best, worst = scored[0], scored[-1]
    if whole:
        kept = [*scored, *(r for r in ranking.responses if r.score is None)]
        responses = tuple(_not_a_seeds(r) for r in kept)
    else:
        ends = (best.model_copy(update={"source": CHOSEN}), worst.model_copy(update={"source": REJECTED}))
        kept = [ends[0], *map(_not_a_seeds, scored[1:-1]), ends[1]]
        responses = tuple(kept) if len(kept) > 2 else ()
    return PreferencePair(
        id=prompt_id(ranking.messages),
        messages=ranking.messages,
        chosen=best.text,
        rejected=worst.text,
        source=source,
        category=ranking.category,
        responses=responses,
    )


def _not_a_seeds(response: Response) -> Response:
    """The response, whose source names none of a seed pair's answers."""
    if response.source not in (CHOSEN, REJECTED):
        return response
    return response.model_copy(update={"source": f"imported:{response.source}"})


def _harness(row: Mapping[str, Any], place: str) -> Ranking:
    given = row["responses"] and _objects(row, "responses", "text, source and score", place)
    scores = _scores([r.get("score") for r in given], [r.get("rank") for r in given], place)
    try:
        messages = tuple(Message.model_validate(message) for message in row["messages"])
        responses = [
            Response.model_validate({**r, "score": score, "rank": None}) for r, score in zip(given, scores, strict=True)
        ]
    except ValidationError as error:
        wrong = error.errors()[0]
        detail = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
        raise DataError(f"{place}: {detail}; expected a ranked dataset's row: messages, responses") from None
    if not messages or messages[-1].role != "user":
        raise DataError(f"{place}: messages: expected a conversation that ends with the user's message")
    return Ranking(messages, responses, row["category"] if isinstance(row.get("category"), str) else None)


def _simpo(row: Mapping[str, Any], place: str) -> Ranking:
    texts, scores = row.get("all_generated_responses"), row.get("all_rm_scores")
    if not isinstance(texts, list) or not isinstance(scores, list) or len(texts) != len(scores) or not texts:
        raise DataError(f"{place}: expected lists of equal length as all_generated_responses and all_rm_scores")
    responses = [
        _response(answer_cell(text, place, "all_generated_responses"), score_cell(score, place))
        for text, score in zip(texts, scores, strict=True)
    ]
    return Ranking(messages_cell(row.get("prompt"), place, "prompt"), responses)


def _nemo(row: Mapping[str, Any], place: str) -> Ranking:
    completions = _objects(row, "completions", "rank and completion", place)
    messages = messages_cell(row.get("context"), place, "context")
    texts = [answer_cell(c.get("completion"), place, "completion") for c in completions]
    rewards, ranks = [c.get("reward") for c in completions], [c.get("rank") for c in completions]
    whole = all(map(is_number, rewards)) or all(rank is None for rank in ranks)
    scores = _scores(rewards if whole else [None] * len(ranks), ranks, place, "reward")
    return Ranking(messages, [_response(text, score) for text, score in zip(texts, scores, strict=True)])


def _nectar(row: Mapping[str, Any], place: str) -> Ranking:
    answers, prompt = _objects(row, "answers", "answer and rank", place), row.get("prompt")
    before, *turns = TURN.split(prompt) if isinstance(prompt, str) else ("?", "")
    names = turns[::2]
    if before or not names or names[-1] != "Assistant" or turns[-1].strip() or len(names) < 2:
        raise DataError(f"{place}: prompt: expected a transcript of Human: and Assistant: turns, the last one empty")
    roles: dict[str, Literal["user", "assistant"]] = {"Human": "user", "Assistant": "assistant"}
    messages = tuple(Message(role=roles[n], content=t) for n, t in zip(names[:-1], turns[1:-1:2], strict=True))
    responses = []
    for answer in answers:
        rank = score_cell(answer.get("rank"), place, "rank")
        text = answer_cell(answer.get("answer"), place, "answer")
        responses.append(_response(text, None if rank is None else -rank, answer.get("model")))
    return Ranking(messages, responses)


def _ultrafeedback(row: Mapping[str, Any], place: str) -> Ranking:
    responses = []
    completions = _objects(row, "completions", "response and overall_score", place) if row["completions"] != [] else []
    for completion in completions:
        score = completion.get("overall_score")
        score = None if score == "N/A" else score_cell(score, place, "overall_score")
        responses.append(
            _response(answer_cell(completion.get("response"), place, "response"), score, completion.get("model"))
        )
    return Ranking(messages_cell(row.get("instruction"), place, "instruction"), responses)


def _objects(row: Mapping[str, Any], column: str, fields: str, place: str) -> list[dict[str, Any]]:
    values = row.get(column)
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values) or not values:
        raise DataError(f"{place}: expected a list of objects with {fields} under {column}")
    return values


def _scores(scores: Sequence[Any], ranks: Sequence[Any], place: str, column: str = "score") -> list[float | None]:
    """The responses' scores; the negatives of their ranks where not one has a score."""
    found = [score_cell(score, place, column) for score in scores]
    if any(score is not None for score in found):
        return found
    return [None if (rank := score_cell(value, place, "rank")) is None else -rank for value in ranks]


def _response(text: str, score: float | None, source: Any = None) -> Response:
    return Response(text=text, source=str(source or IMPORTED), score=score)


_READERS: dict[Layout, Callable[[Mapping[str, Any], str], Ranking]] = {
    "harness": _harness,
    "simpo": _simpo,
    "nemo-rl": _nemo,
    "nectar": _nectar,
    "ultrafeedback": _ultrafeedback,
}


def expected_rankings(row: Mapping[str, Any]) -> Unreadable:
    """The error for a row that ranks no responses, where rankings are read."""
    names = printable(", ".join(sorted(map(str, row))), 200) or "none"
    pairs = "chosen" in row or "rejected" in row
    advice = (
        "pairs go into data.seeds, or harness import --format trl joins those of one prompt"
        if pairs
        else "see the layouts of harness import"
    )
    return Unreadable(f"expected ranked responses, each with a score or a rank; got the columns {names}: {advice}")
