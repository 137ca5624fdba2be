"""The stages of a row's answers to a benchmark: written by the policy, or read from a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import files
from harness.augmentation.answering import Writer, engines_of_row, writer_of
from harness.benchmark import Benchmark, Names, Wanted
from harness.components import identity, question_identity
from harness.engine.engines import START
from harness.engine.journal import Journal, content_key
from harness.engine.stage import Context, Estimate, Stage, derived_seed
from harness.engine.store import stage_key, write_rows
from harness.errors import DataError, RecipeError
from harness.memo import once
from harness.models import chat
from harness.models import load as models
from harness.models.batching import Job
from harness.models.templates.stripping import Thoughts, count_thoughts, shown
from harness.models.templates.thoughts import Thinking
from harness.models.workload import GENERATING, REPLY_SECONDS, loading, work
from harness.protocols import Sampled
from harness.recipe.evaluation import AnswerSampling, RecordedFile, System
from harness.recipe.policy import policy_identity, policy_tokenizer
from harness.training.checkpoint import RowModel
from harness.types import Advance, Answer, Completion, Message, Question, Sampling

NAME, VERSION = "answers", 3


def answers_stage(
    row: str,
    model: RowModel,
    config: AnswerSampling,
    benchmark: Benchmark,
    seed: int,
    siblings: Sequence[Benchmark] = (),
    rank: int | None = None,
) -> Stage:
    """A row's answers to a benchmark: `answers.jsonl`. Turn by turn, each with the conversation so far in context.

    Every turn is kept in a journal of the model's answers as it was written, with its thoughts. Answers, and the
    conversation so far, have them only where the recipe says `keep`. `siblings`: all benchmarks that the row answers.
    The stage that runs first asks the questions of all of them, in one batch of one loaded model; the others read the
    journal. `rank`: of the largest adapter of a row that an engine, if the recipe names one, is given beside this."""
    name = identity(benchmark)["name"]
    policy = model.policy
    seed = derived_seed(seed, "answers")
    bits = {"bits": model.bits} if model.bits else {}
    bits |= models.sampling_identity(policy.model, policy.revision)
    thinking = {"thinking": policy.thinking} if policy.thinking != "strip" else {}
    inputs = {role: stage.key for role, stage in model.inputs.items()}
    answered_by: dict[str, Any] = {"policy": policy_identity(policy), "inputs": inputs, **bits}
    if config.engine:
        answered_by |= {"served_by": config.engine.engine.name}
        if model.bits:
            raise RecipeError(f"evaluation.answers.generator: row '{row}' has a quantised base: answer in process")

    def params(asked: Benchmark) -> dict[str, Any]:
        sampling = config.identity()
        answering = {"policy": policy_identity(policy), "sampling": sampling, "seed": seed, **bits, **thinking}
        return answering | {"questions": question_identity(asked)}

    def is_answered(ctx: Context, asked: Benchmark) -> bool:
        return ctx.store.find(stage_key(NAME, VERSION, params(asked), inputs)) is not None

    def body(ctx: Context) -> dict[str, Any]:
        questions = benchmark.load_questions()
        others = [other for other in siblings if other is not benchmark and not is_answered(ctx, other)]
        path = ctx.store.journals / "answers" / f"answers-{content_key(answered_by)[:16]}.jsonl"
        asking = _Asking(Journal(path, Completion, column="answer"), config, seed, policy.thinking)
        all_of_them = [asking.conversation(q) for b in [benchmark, *others] for q in b.load_questions()]
        ctx.progress.start(f"{row} answers {name}", sum(len(c.question.turns) for c in all_of_them))
        ctx.progress.advance(sum(len(c.answers) for c in all_of_them))
        if any(c.is_open for c in all_of_them):
            tokenizer = policy_tokenizer(policy)
            writer = writer_of(ctx, model, config, tokenizer, seed, rank)
            asking.ask(all_of_them, writer, tokenizer, ctx.progress.advance)
        served = {"answered_by": f"served by {config.engine.engine.name}"} if config.engine else {}
        return _written(ctx, all_of_them[: len(questions)], policy.thinking) | served

    engines = engines_of_row(model, config, rank)

    return Stage(
        f"answers/{name}/{row}",
        NAME,
        VERSION,
        params(benchmark),
        model.inputs,
        body,
        lambda: _estimate(benchmark, config, policy.model, starts=not engines),
        exclusive=frozenset({f"answers/{content_key(answered_by)}"}),
        engines=engines,
    )


def _written(ctx: Context, conversations: "Sequence[_Conversation]", thinking: Thinking) -> dict[str, Any]:
    """Write the answers; returns the stage's report."""
    thoughts = Thoughts(thinking)
    answers = [_answer(conversation, thoughts) for conversation in conversations]
    thought = thoughts.report
    write_rows(ctx.folder / "answers.jsonl", answers)
    cut = sum(reason == "length" for a in answers for reason in a.finish_reasons)
    tokens = sum(a.tokens or 0 for a in answers)
    return {"questions": len(answers), "tokens": tokens, "cut_at_token_limit": cut, **thought}


def _estimate(benchmark: Benchmark, config: AnswerSampling, model: str, *, starts: bool) -> Estimate:
    """`starts`: an engine, if there is one, is started for this row alone."""
    turns = turn_count(benchmark)
    tokens = turns * config.most_tokens
    if config.engine:
        waiting = turns * REPLY_SECONDS / config.parallel_requests
        return Estimate(generated_tokens=tokens, waiting=waiting + (START if starts else 0.0))
    return Estimate(generated_tokens=tokens, work=work([model], tokens, GENERATING), waiting=loading([model]))


@dataclass
class _Conversation:
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


class _Asking:
    """Asks a model, whose journal this is."""

    def __init__(self, journal: Journal[Completion], config: AnswerSampling, seed: int, thinking: Thinking) -> None:
        self._journal = journal
        self._config = config
        self._seed = seed
        self._thinking: Thinking = thinking

    def conversation(self, question: Question) -> _Conversation:
        """A conversation as far as the journal has it."""
        start = _Conversation(question, [Message(role="user", content=question.turns[0])], [], self._thinking)
        written = self._journal.rows()
        while start.is_open and (answer := written.get(self._key(start))) is not None:
            start.add(answer)
        return start

    def ask(self, conversations: Sequence[_Conversation], writer: Writer, tokenizer: Any, advance: Advance) -> None:
        """Have all conversations finished. A model that is decoded in batches answers turn by turn, so that a stopped
        stage forms the same batches again; any other goes on with a conversation at once."""
        at_once = writer.at_once

        def job(conversation: _Conversation) -> Job:
            sampling = _sampling(self._config, conversation.question)
            prompt = chat.encode_prompt(tokenizer, conversation.messages)
            return Job(prompt, sampling, (conversation.question.sample,))

        for turn in range(max(len(c.question.turns) for c in conversations)):
            asked = [c for c in conversations if c.is_open and (at_once or len(c.answers) == turn)]

            def arrived(rows: Sequence[Sampled], asked: list[_Conversation] = asked) -> None:
                keyed = [(self._key(asked[row.request]), row.completion) for row in rows]
                self._journal.append(keyed, together=not at_once)
                for row in rows:
                    asked[row.request].add(row.completion)
                advance(len(rows))

            def then(row: Sampled, asked: list[_Conversation] = asked) -> Job | None:
                conversation = asked[row.request]
                return job(conversation) if at_once and conversation.is_open else None

            writer.write([job(c) for c in asked], arrived, then)

    def _key(self, conversation: _Conversation) -> str:
        """Of the next answer."""
        sampling = _sampling(self._config, conversation.question).model_dump(mode="json")
        messages = [m.model_dump() for m in conversation.messages]
        return content_key([sampling, messages, self._seed, conversation.question.sample])


def turn_count(benchmark: Benchmark) -> int:
    """The turns of all questions of a benchmark."""
    return once(("turns", id(benchmark)), lambda: (benchmark, sum(len(q.turns) for q in benchmark.load_questions())))[1]


def _sampling(config: AnswerSampling, question: Question) -> Sampling:
    temperature = question.temperature if config.temperature is None else config.temperature
    return Sampling(
        temperature=temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
        max_thinking_tokens=config.max_thinking_tokens,
    )


def _answer(conversation: _Conversation, thoughts: Thoughts) -> Answer:
    return Answer(
        question_id=conversation.question.id,
        turns=tuple(thoughts.answer(answer) for answer in conversation.answers),
        finish_reasons=tuple(answer.finish_reason for answer in conversation.answers),
        tokens=sum(answer.tokens for answer in conversation.answers),
    )


def recorded_answers_stage(system: System, benchmark: Benchmark) -> Stage:
    """A system's answers from its file, as they are: `answers.jsonl`. Its report counts answers that are missing,
    repeated or to other questions, and those with thoughts."""
    name = identity(benchmark)["name"]
    recorded = system.answers[name]
    several, wanted = whose(benchmark, recorded, (system.id,))

    def body(ctx: Context) -> dict[str, Any]:
        answers, counts = benchmark.recorded_answers(recorded.file, *wanted)
        write_rows(ctx.folder / "answers.jsonl", answers)
        texts = [text for answer in answers for text in answer.turns]
        thoughts = count_thoughts(texts)
        counted = {"thoughts": {"removed": False, "texts": len(texts), "with_thoughts": thoughts}} if thoughts else {}
        return {"questions": len(answers), "file": counts, **counted}

    params = {"questions": benchmark.question_identity(), "file_sha256": content_sha256(recorded.file), **several}
    return Stage(f"answers/{name}/{system.id}", "recorded_answers", 2, params, {}, body)


def whose(
    benchmark: Benchmark, recorded: RecordedFile, known_as: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[Wanted, ...]]:
    """(the part of a stage's identity that says whose answers or verdicts are read, empty for a file of one model and
    one judge; the argument that says so to the benchmark, none if it doesn't tell them apart). Raises DataError."""
    names = recorded_names(benchmark, recorded.file)
    if not any(names):
        if recorded.model or recorded.judge:
            what = f"benchmark '{benchmark.name}' doesn't tell the models and judges in a file apart"
            raise DataError(f"{recorded.file}: {what}; give only the file")
        return {}, ()
    wanted = Wanted(recorded.model, recorded.judge, known_as)
    several = len(names.models) > 1 or len(names.judges) > 1 or recorded.model or recorded.judge
    return ({"whose": [wanted.model, wanted.judge, *known_as]} if several else {}), (wanted,)


def recorded_names(benchmark: Benchmark, path: Path) -> Names:
    """The models and judges in a file."""
    return once(("recorded names", benchmark.name, path), lambda: benchmark.recorded_names(path))


def content_sha256(path: Path) -> str:
    """SHA-256 of a file's content; a .gz is unpacked first."""
    return files.sha256(files.read_bytes(path))
