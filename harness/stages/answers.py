"""The stages of a row's answers to a benchmark: written by the policy, or read from a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import files
from harness.benchmark import Benchmark, Names, Wanted
from harness.components import identity, question_identity
from harness.engine.journal import Journal, content_key
from harness.engine.stage import Context, Estimate, Stage, derived_seed
from harness.engine.store import stage_key, write_rows
from harness.errors import DataError
from harness.memo import once
from harness.models import chat
from harness.models import load as models
from harness.models.workload import GENERATING, loading, work
from harness.recipe.evaluation import AnswerSampling, RecordedFile, System
from harness.recipe.policy import policy_identity
from harness.training.checkpoint import RowModel
from harness.types import Advance, Answer, Completion, Message, Question, Sampling

NAME, VERSION = "answers", 2


def answers_stage(
    row: str,
    model: RowModel,
    config: AnswerSampling,
    benchmark: Benchmark,
    seed: int,
    siblings: Sequence[Benchmark] = (),
) -> Stage:
    """A row's answers to a benchmark: `answers.jsonl`. Turn by turn, each with the conversation so far in context.

    Every turn is kept in a journal of the model's answers. `siblings`: all benchmarks that the row answers. The stage
    that runs first asks the questions of all of them, in one batch of one loaded model; the others read the journal."""
    name = identity(benchmark)["name"]
    policy = model.policy
    seed = derived_seed(seed, "answers")
    bits = {"bits": model.bits} if model.bits else {}
    inputs = {role: stage.key for role, stage in model.inputs.items()}
    answered_by = {"policy": policy_identity(policy), "inputs": inputs, **bits}

    def params(asked: Benchmark) -> dict[str, Any]:
        sampling = config.model_dump(mode="json")
        answering = {"policy": policy_identity(policy), "sampling": sampling, "seed": seed, **bits}
        return answering | {"questions": question_identity(asked)}

    def is_answered(ctx: Context, asked: Benchmark) -> bool:
        return ctx.store.find(stage_key(NAME, VERSION, params(asked), inputs)) is not None

    def body(ctx: Context) -> dict[str, Any]:
        questions = benchmark.load_questions()
        others = [other for other in siblings if other is not benchmark and not is_answered(ctx, other)]
        path = ctx.store.journals / "answers" / f"answers-{content_key(answered_by)[:16]}.jsonl"
        asking = _Asking(Journal(path, Completion, column="answer"), config, seed)
        all_of_them = [asking.conversation(q) for b in [benchmark, *others] for q in b.load_questions()]
        ctx.progress.start(f"{row} answers {name}", sum(len(c.question.turns) for c in all_of_them))
        ctx.progress.advance(sum(len(c.answers) for c in all_of_them))
        if any(c.is_open for c in all_of_them):
            tokenizer = models.load_tokenizer(policy.model, policy.revision)
            asking.ask(all_of_them, model.load(ctx), tokenizer, ctx.progress.advance)
        answers = [_answer(c) for c in all_of_them[: len(questions)]]
        write_rows(ctx.folder / "answers.jsonl", answers)
        cut = sum(reason == "length" for a in answers for reason in a.finish_reasons)
        return {"questions": len(answers), "tokens": sum(a.tokens or 0 for a in answers), "cut_at_token_limit": cut}

    def estimate() -> Estimate:
        tokens, loaded = turn_count(benchmark) * config.max_new_tokens, [policy.model]
        computed = work(loaded, tokens, GENERATING)
        return Estimate(generated_tokens=tokens, work=computed, waiting=loading(loaded))

    journal = frozenset({f"answers/{content_key(answered_by)}"})
    return Stage(
        f"answers/{name}/{row}", NAME, VERSION, params(benchmark), model.inputs, body, estimate, exclusive=journal
    )


@dataclass
class _Conversation:
    """A question, the messages so far, and the answers among them."""

    question: Question
    messages: list[Message]
    answers: list[Completion]

    @property
    def is_open(self) -> bool:
        return len(self.answers) < len(self.question.turns)

    def add(self, answer: Completion) -> None:
        """An answer, with the next turn's question."""
        self.answers.append(answer)
        self.messages.append(Message(role="assistant", content=answer.text))
        if self.is_open:
            self.messages.append(Message(role="user", content=self.question.turns[len(self.answers)]))


class _Asking:
    """Asks a model, whose journal this is."""

    def __init__(self, journal: Journal[Completion], config: AnswerSampling, seed: int) -> None:
        self._journal = journal
        self._config = config
        self._seed = seed

    def conversation(self, question: Question) -> _Conversation:
        """A conversation as far as the journal has it."""
        start = _Conversation(question, [Message(role="user", content=question.turns[0])], [])
        written = self._journal.rows()
        while start.is_open and (answer := written.get(self._key(start))) is not None:
            start.add(answer)
        return start

    def ask(self, conversations: Sequence[_Conversation], model: Any, tokenizer: Any, advance: Advance) -> None:
        """Have all conversations finished. A model that is decoded in batches answers turn by turn, so that a stopped
        stage forms the same batches again; any other goes on with a conversation at once."""
        from harness.models.batching import Job
        from harness.models.decode.support import decodes_in_slots
        from harness.models.decoding import decode
        from harness.protocols import Sampled

        at_once = decodes_in_slots(model)

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

            jobs = [job(c) for c in asked]
            decode(model, tokenizer, jobs, seed=self._seed, batch_size=None, arrived=arrived, then=then)

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
    return Sampling(temperature=temperature, top_p=config.top_p, max_new_tokens=config.max_new_tokens)


def _answer(conversation: _Conversation) -> Answer:
    return Answer(
        question_id=conversation.question.id,
        turns=tuple(answer.text for answer in conversation.answers),
        finish_reasons=tuple(answer.finish_reason for answer in conversation.answers),
        tokens=sum(answer.tokens for answer in conversation.answers),
    )


def recorded_answers_stage(system: System, benchmark: Benchmark) -> Stage:
    """A system's answers from its file: `answers.jsonl`. Its report counts answers that are missing, repeated or to
    other questions."""
    name = identity(benchmark)["name"]
    recorded = system.answers[name]
    several, wanted = whose(benchmark, recorded, (system.id,))

    def body(ctx: Context) -> dict[str, Any]:
        answers, counts = benchmark.recorded_answers(recorded.file, *wanted)
        write_rows(ctx.folder / "answers.jsonl", answers)
        return {"questions": len(answers), "file": counts}

    params = {"questions": benchmark.question_identity(), "file_sha256": content_sha256(recorded.file), **several}
    return Stage(f"answers/{name}/{system.id}", "recorded_answers", 1, params, {}, body)


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
