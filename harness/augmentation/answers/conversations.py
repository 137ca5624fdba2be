"""Conversations in which a model answers questions, turn by turn, and the journal of its answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.augmentation.answering import Writer
from harness.engine.journal import Journal, content_key
from harness.models import chat
from harness.models.batching import Job
from harness.models.templates.stripping import Thoughts, shown
from harness.models.templates.thoughts import Thinking
from harness.protocols import Sampled
from harness.recipe.evaluation import AnswerSampling
from harness.types import Advance, Answer, Completion, Message, Question, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Conversation:
    """A question, the messages so far, and the answers among them, as they were written. `thinking`: what becomes of
    their thoughts in the messages."""

    question: Question
    messages: list[Message]
    answers: list[Completion]
    thinking: Thinking

    @property
    def is_open(self) -> bool:
        return len(self.answers) < len(self.question.turns)

    def add(self, answer: Completion) -> None:
        """An answer, with the next turn's question."""
        self.answers.append(answer)
        self.messages.append(Message(role="assistant", content=shown(answer, self.thinking)))
        if self.is_open:
            self.messages.append(Message(role="user", content=self.question.turns[len(self.answers)]))


class Asking:
    """Asks a model, whose journal this is."""

    def __init__(self, journal: Journal[Completion], config: AnswerSampling, seed: int, thinking: Thinking) -> None:
        self._journal = journal
        self._config = config
        self._seed = seed
        self._thinking: Thinking = thinking

    def conversation(self, question: Question) -> Conversation:
        """A conversation as far as the journal has it."""
        first = [*question.history, Message(role="user", content=question.turns[0])]
        start = Conversation(question, first, [], self._thinking)
        written = self._journal.rows()
        while start.is_open and (answer := written.get(self._key(start))) is not None:
            start.add(answer)
        return start

    def ask(self, conversations: Sequence[Conversation], writer: Writer, tokenizer: Any, advance: Advance) -> None:
        """Have all conversations finished. A model that is decoded in batches answers turn by turn, so that a stopped
        stage forms the same batches again; any other goes on with a conversation at once."""
        at_once = writer.at_once

        def job(conversation: Conversation) -> Job:
            sampling = sampling_of(self._config, conversation.question)
            prompt = prompt_ids(tokenizer, conversation.question, conversation.messages)
            return Job(prompt, sampling, (conversation.question.sample,))

        for turn in range(max(len(c.question.turns) for c in conversations)):
            asked = [c for c in conversations if c.is_open and (at_once or len(c.answers) == turn)]

            def arrived(rows: Sequence[Sampled], asked: list[Conversation] = asked) -> None:
                keyed = [(self._key(asked[row.request]), row.completion) for row in rows]
                self._journal.append(keyed, together=not at_once)
                for row in rows:
                    asked[row.request].add(row.completion)
                advance(len(rows))

            def then(row: Sampled, asked: list[Conversation] = asked) -> Job | None:
                conversation = asked[row.request]
                return job(conversation) if at_once and conversation.is_open else None

            writer.write([job(c) for c in asked], arrived, then)

    def _key(self, conversation: Conversation) -> str:
        """Of the next answer."""
        sampling = sampling_of(self._config, conversation.question).model_dump(mode="json")
        messages = [m.model_dump() for m in conversation.messages]
        plain = ["plain"] if conversation.question.plain else []
        return content_key([sampling, messages, self._seed, conversation.question.sample, *plain])


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", question: Question, messages: Sequence[Message]) -> list[int]:
    """The tokens of a question, with the conversation so far, up to where the next answer begins."""
    return list(tokenizer.encode(messages[0].content)) if question.plain else chat.encode_prompt(tokenizer, messages)


def sampling_of(config: AnswerSampling, question: Question) -> Sampling:
    """How a question's answers are sampled."""
    temperature = question.temperature if config.temperature is None else config.temperature
    return Sampling(
        temperature=temperature,
        top_p=config.top_p,
        max_new_tokens=question.max_new_tokens or config.max_new_tokens,
        stop=question.stop,
        max_thinking_tokens=config.max_thinking_tokens,
    )


def answer_of(conversation: Conversation, thoughts: Thoughts) -> Answer:
    return Answer(
        question_id=conversation.question.id,
        turns=tuple(thoughts.answer(answer) for answer in conversation.answers),
        finish_reasons=tuple(answer.finish_reason for answer in conversation.answers),
        tokens=sum(answer.tokens for answer in conversation.answers),
    )
