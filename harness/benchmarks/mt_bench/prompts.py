"""MT-bench's judge prompts, FastChat's templates filled in as by its `run_judge_single` and `run_judge_pair`, and the
parsing of the judge's replies."""

import re
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any, NamedTuple

from harness.errors import DataError
from harness.servers.replies import answer_only, shares
from harness.types import Candidates, JudgeReply, JudgeRequest, Message, Messages

NEED_REFERENCE = frozenset({"math", "reasoning", "coding", "arena-hard-200"})
"""FastChat's `NEED_REF_CATS`: categories whose judge prompts include a reference answer."""
RATING_REPLIES = tuple(f"[[{rating}]]" for rating in range(1, 11))
WINNER_REPLIES = ("[[A]]", "[[B]]", "[[C]]")
"""Assistant A is better, assistant B is better, or a tie."""
WINNER_VALUES = (1.0, 0.0, 0.5)
"""Assistant A's score for each of WINNER_REPLIES."""
SINGLE_TEMPLATES, PAIR_TEMPLATES = ("single-v1", "single-math-v1"), ("pair-v2", "pair-math-v1")
"""Names of FastChat's templates without and with a reference answer."""
_ORDINALS = ("third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
LONGEST_PROMPT = 4_000_000
"""Characters of the longest prompt of a judge, more than any model reads."""
MOST_TURNS = 2 + len(_ORDINALS)

_RATING = re.compile(r"\[\[(\d++(?:\.\d*+)?+)\]\]")
_SINGLE_BRACKETS = re.compile(r"\[(\d++(?:\.\d*+)?+)\]")
"""FastChat's `one_score_pattern` and its backup, in a form that takes linear time: its `\\d+\\.?\\d*` tries every way
to divide a long run of digits in two."""


class MtQuestion(NamedTuple):
    """A question: the user's turns, and the reference answers if its category needs them."""

    id: str
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] | None


def template_name(question: MtQuestion, turn: int, kinds: tuple[str, str] = SINGLE_TEMPLATES) -> str:
    """The name of the judge prompt for a turn: FastChat's name, extended here for turns after the second."""
    name = kinds[question.reference is not None]
    if turn == 1:
        return name
    return f"{name}-multi-turn" + (f" (turn {turn})" if turn > 2 else "")


def check_templates(templates: Mapping[str, Mapping[str, Any]], where: str, kinds: tuple[str, str]) -> None:
    """Raises DataError for a missing or incomplete template."""
    form = "[[rating]]" if kinds is SINGLE_TEMPLATES else "[[A]]"
    for name in (part + end for end in ("", "-multi-turn") for part in kinds):
        template = templates.get(name, {})
        if not isinstance(template.get("prompt_template"), str) or template.get("output_format") != form:
            raise DataError(f"{where}: expected a template '{name}' with prompt_template and output_format {form}")


def rating_request(
    templates: Mapping[str, Mapping[str, Any]], question: MtQuestion, answer: Sequence[str], turn: int
) -> JudgeRequest:
    """The judge request for a rating of one turn; the prompt shows all turns up to it."""
    return _request(templates, question, turn, {"answer": answer}, SINGLE_TEMPLATES, RATING_REPLIES)


def pair_request(
    templates: Mapping[str, Mapping[str, Any]],
    question: MtQuestion,
    first: Sequence[str],
    second: Sequence[str],
    turn: int,
) -> JudgeRequest:
    """The judge request for a choice between two answers to one turn; `first` is assistant A's."""
    answers = {"answer_a": first, "answer_b": second}
    request = _request(templates, question, turn, answers, PAIR_TEMPLATES, WINNER_REPLIES)
    candidates = Candidates(
        messages=_conversation(question, first, turn),
        answers=(first[turn - 1], second[turn - 1]),
        second_messages=None if turn == 1 else _conversation(question, second, turn),
    )
    return request.model_copy(update={"candidates": candidates})


def _conversation(question: MtQuestion, answer: Sequence[str], turn: int) -> Messages:
    """What a turn's answer replies to."""
    earlier = [
        message
        for text, reply in zip(question.turns[: turn - 1], answer, strict=False)
        for message in (Message(role="user", content=text), Message(role="assistant", content=reply))
    ]
    return (*earlier, Message(role="user", content=question.turns[turn - 1]))


def _request(
    templates: Mapping[str, Mapping[str, Any]],
    question: MtQuestion,
    turn: int,
    answers: Mapping[str, Sequence[str]],
    kinds: tuple[str, str],
    choices: tuple[str, ...],
) -> JudgeRequest:
    name = template_name(question, turn, kinds)
    template = templates[template_name(question, min(turn, 2), kinds)]
    text, system = template["prompt_template"], template.get("system_prompt") or ""
    if turn > 2:
        text, system = _longer(text, system, turn, [*answers, "ref_answer"], name)
    values: dict[str, str] = {}
    if turn == 1:
        values = {"question": question.turns[0]} | {key: texts[0] for key, texts in answers.items()}
    else:
        values = {f"question_{i + 1}": text for i, text in enumerate(question.turns[:turn])}
        values |= {f"{key}_{i + 1}": t for key, texts in answers.items() for i, t in enumerate(texts[:turn])}
    values |= {f"ref_answer_{i + 1}": t for i, t in enumerate((question.reference or ())[:turn])}
    try:
        prompt = _filled(text, values)
    except ValueError as error:
        raise DataError(f"judge prompt '{name}' can't be filled in: {error}; it may name {sorted(values)}") from None
    messages = (Message(role="system", content=system),) if system else ()
    return JudgeRequest(messages=(*messages, Message(role="user", content=prompt)), max_tokens=2048, choices=choices)


def _filled(text: str, values: Mapping[str, str]) -> str:
    """A template with its fields filled in as by `str.format`, which FastChat uses. Raises ValueError for unknown
    fields, for formats such as `{question:>1000000000}`, and for a prompt beyond LONGEST_PROMPT."""
    length = 0
    for literal, field, form, conversion in Formatter().parse(text):
        if form or conversion:
            raise ValueError(f"{{{field}}} has a format; expected only its name")
        if field is not None and field not in values:
            raise ValueError(repr(field[:60]))
        length += len(literal) + (len(values[field]) if field is not None else 0)
        if length > LONGEST_PROMPT:
            raise ValueError(f"the prompt would have more than {LONGEST_PROMPT:,} characters")
    return text.format(**values)


def _longer(text: str, system: str, turn: int, keys: Sequence[str], name: str) -> tuple[str, str]:
    """A two-turn template extended to more turns: the part from the first answer's end to the second answer's end is
    repeated for each further turn, and `second` becomes the turn's ordinal. Raises DataError for a template without
    such a part."""
    if turn > MOST_TURNS:
        raise DataError(f"judge prompt '{name}': expected a conversation of at most {MOST_TURNS} turns")
    for key in keys:
        start, end = text.find(f"{{{key}_1}}"), text.find(f"{{{key}_2}}")
        if start < 0 and key == "ref_answer":
            continue
        if start < 0 or end < start:
            raise DataError(
                f"judge prompt '{name}': expected {{{key}_1}} and then {{{key}_2}} in the two-turn template"
            )
        start, end = start + len(f"{{{key}_1}}"), end + len(f"{{{key}_2}}")
        block = text[start:end]
        more = "".join(_numbered(re.sub(r"_2\}", f"_{k}}}", block), k) for k in range(3, turn + 1))
        text = text[:end] + more + text[end:]
    return text, _numbered(system, turn)


def _numbered(text: str, turn: int) -> str:
    """The text with `second` replaced by the turn's ordinal."""
    ordinal = _ORDINALS[turn - 3]
    return re.sub(r"\bsecond\b", ordinal, text)


def has_probabilities(reply: JudgeReply, choices: Sequence[str] = RATING_REPLIES) -> bool:
    """Whether the reply has probabilities for all choices, not all of them 0."""
    return shares(reply, choices) is not None


def choice_weights(reply: JudgeReply, choices: Sequence[str]) -> list[float]:
    """The choices' probabilities, normalised."""
    weights = shares(reply, choices)
    assert weights is not None
    return weights


def rating_problem(reply: JudgeReply) -> str | None:
    """Why no rating can be read from a reply; None where one can."""
    return None if has_probabilities(reply) else read_rating(reply)[1]


def winner_problem(reply: JudgeReply) -> str | None:
    """Why no winner can be read from a reply; None where one can."""
    return None if has_probabilities(reply, WINNER_REPLIES) else read_winner(reply)[1]


def read_rating(reply: JudgeReply) -> tuple[float | None, str | None]:
    """(the rating in a reply's text, None), or (None, the reason why there is none)."""
    return _read(reply, parse_rating)


def read_winner(reply: JudgeReply) -> tuple[float | None, str | None]:
    """(assistant A's score by a reply's text, None), or (None, the reason why there is none)."""
    return _read(reply, parse_winner)


def _read(
    reply: JudgeReply, parse: Callable[[str], tuple[float | None, str | None]]
) -> tuple[float | None, str | None]:
    answer = answer_only(reply)
    if answer.unread is not None:
        return None, answer.unread
    value, reason = parse(answer.text)
    return value, f"{reason}, which was cut at its token limit" if reason and reply.cut else reason


def parse_rating(judgment: str) -> tuple[float | None, str | None]:
    """(rating, None) by FastChat's patterns: the first `[[5]]`, else the first `[5]`; or (None, the reason)."""
    match = _RATING.search(judgment) or _SINGLE_BRACKETS.search(judgment)
    if match is None:
        return None, "no rating in the judge's reply" if judgment.strip() else "the judge's reply is empty"
    rating = float(match.group(1))
    if not 1 <= rating <= 10:
        return None, f"the rating {match.group(1)[:20]} is outside [1, 10]"
    return rating, None


def parse_winner(judgment: str) -> tuple[float | None, str | None]:
    """(1 for assistant A, 0 for B, 0.5 for a tie; None) by FastChat's rule: `[[A]]` if it is anywhere in the reply,
    else `[[B]]`, else `[[C]]`; or (None, the reason)."""
    for mark, value in zip(WINNER_REPLIES, WINNER_VALUES, strict=True):
        if mark in judgment:
            return value, None
    return None, "no [[A]], [[B]] or [[C]] in the judge's reply" if judgment.strip() else "the judge's reply is empty"
