"""The answers that a model has written, turn by turn, each with the conversation before it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from harness.types import Answer, Message, Messages, Question


class Turn(NamedTuple):
    """An answer to one turn. `messages`: the question's history, its turns and the answers so far. `is_whole`: the
    model ended it, rather than the token limit."""

    messages: Messages
    text: str
    is_whole: bool


class Answered(NamedTuple):
    """A question with an answer to it, of one turn or several. `prompt`: its id, which is that of all its samples.
    `tokens`: of all turns as they were sampled; None where unknown."""

    prompt: str
    question: Question
    turns: tuple[Turn, ...]
    tokens: int | None


def answered(questions: Sequence[Question], answers: Iterable[Answer]) -> Iterator[Answered]:
    """The answers with texts, in their order; those to other questions, and log-likelihoods, are left out."""
    written = {question.id: question for question in questions if not question.scored}
    for answer in answers:
        question = written.get(answer.question_id)
        if question is not None and answer.turns:
            prompt = question.id.rpartition("#")[0] if question.sample else question.id
            yield Answered(prompt, question, tuple(_turns(question, answer)), answer.tokens)


def _turns(question: Question, answer: Answer) -> Iterator[Turn]:
    messages: list[Message] = list(question.history)
    for number, (asked, text) in enumerate(zip(question.turns, answer.turns, strict=False)):
        messages.append(Message(role="user", content=asked))
        is_whole = answer.finish_reasons[number : number + 1] == ("stop",)
        yield Turn(tuple(messages), text, is_whole)
        messages.append(Message(role="assistant", content=text))
