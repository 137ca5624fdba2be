"""The stages of a row's answers to a benchmark: written by the policy, or read from a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import files
from harness.augmentation.answering import engines_of_row, writer_of
from harness.augmentation.answers.conversations import Asking, Conversation, answer_of
from harness.augmentation.continuations import Scored, score_questions, stored_scores
from harness.benchmark import Benchmark, Names, Wanted
from harness.components import identity, question_identity
from harness.engine.engines import START
from harness.engine.journal import Journal, content_key
from harness.engine.shards.spool import Shard, dealt
from harness.engine.stage import Context, Estimate, Stage, derived_seed
from harness.engine.store import stage_key, write_rows
from harness.errors import DataError, ModelError, RecipeError
from harness.files import is_offline
from harness.memo import once
from harness.models import load as models
from harness.models.demand.loads import REPLY_SECONDS, loading
from harness.models.demand.parts import answering
from harness.models.templates.stripping import Thoughts, count_thoughts
from harness.models.templates.thoughts import Thinking
from harness.recipe.evaluation import AnswerSampling, RecordedFile, System
from harness.recipe.policy import Policy, policy_identity, policy_tokenizer
from harness.recipe.sizes import CHARACTERS_PER_TOKEN
from harness.training.checkpoint import RowModel
from harness.types import Completion, Messages, Question

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
    if config.engine and model.bits:
        raise RecipeError(f"evaluation.answers.generator: row '{row}' has a quantised base: answer in process")
    answers = _Answers(row, model, config, benchmark, derived_seed(seed, "answers"), tuple(siblings), rank)
    engines = engines_of_row(model, config, rank)
    return Stage(
        f"answers/{name}/{row}",
        NAME,
        VERSION,
        answers.params(benchmark),
        model.inputs,
        answers.body,
        lambda: _estimate(benchmark, config, model.policy, starts=not engines),
        exclusive=frozenset({f"answers/{content_key(answers.answered_by)}"}),
        spreads="by resources",
        engines=engines,
    )


@dataclass(frozen=True)
class _Answers:
    """What the stage does; the fields are the arguments of `answers_stage`, with a seed derived from the recipe's."""

    row: str
    model: RowModel
    config: AnswerSampling
    benchmark: Benchmark
    seed: int
    siblings: tuple[Benchmark, ...]
    rank: int | None

    @property
    def answered_by(self) -> dict[str, Any]:
        """What answers in a journal depend on besides their questions and the sampling."""
        inputs = {role: stage.key for role, stage in self.model.inputs.items()}
        served = {"served_by": self.config.engine.engine.name} if self.config.engine else {}
        return {"policy": policy_identity(self.model.policy), "inputs": inputs, **self._own, **served}

    @property
    def _own(self) -> dict[str, Any]:
        policy, bits = self.model.policy, self.model.bits
        sampled = models.sampling_identity(policy.model, policy.revision)
        return ({"bits": bits} if bits else {}) | sampled | self.model.identity

    def params(self, asked: Benchmark) -> dict[str, Any]:
        """The stage's, or a sibling's."""
        policy = self.model.policy
        thinking = {"thinking": policy.thinking} if policy.thinking != "strip" else {}
        answering = {"policy": policy_identity(policy), "sampling": self.config.identity(), "seed": self.seed}
        return {**answering, **self._own, **thinking, "questions": question_identity(asked)}

    def _is_answered(self, ctx: Context, asked: Benchmark) -> bool:
        inputs = {role: stage.key for role, stage in self.model.inputs.items()}
        return ctx.store.find(stage_key(NAME, VERSION, self.params(asked), inputs)) is not None

    def _journal(self, ctx: Context) -> Path:
        return ctx.store.journals / "answers" / f"answers-{content_key(self.answered_by)[:16]}.jsonl"

    def _asking(self, ctx: Context) -> Asking:
        journal = Journal(self._journal(ctx), Completion, column="answer")
        return Asking(journal, self.config, self.seed, self.model.policy.thinking)

    def answer(self, ctx: Context, shard: Shard) -> None:
        """Answer a shard's questions, into the journals."""
        part, asking = list(shard.rows(Question)), self._asking(ctx)
        if conversations := [asking.conversation(q) for q in part if not q.scored]:
            tokenizer = policy_tokenizer(self.model.policy)
            writer = writer_of(ctx, self.model, self.config, tokenizer, self.seed, self.rank)
            asking.ask(conversations, writer, tokenizer, ctx.progress.advance)
        score_questions(ctx, self.model, [q for q in part if q.scored], self._journal(ctx))

    def body(self, ctx: Context) -> dict[str, Any]:
        """Answer what the journal doesn't have, and write the benchmark's answers."""
        name, row = identity(self.benchmark)["name"], self.row
        others = [o for o in self.siblings if o is not self.benchmark and not self._is_answered(ctx, o)]
        questions = self.benchmark.load_questions()
        asked = [*questions, *(q for other in others for q in other.load_questions())]
        written, scored = [q for q in asked if not q.scored], [q for q in asked if q.scored]
        ctx.progress.start(f"{row} answers {name}", sum(len(q.scored or q.turns) for q in asked))
        asking = self._asking(ctx)
        before = [asking.conversation(q) for q in written]
        known = stored_scores(scored, self._journal(ctx))
        ctx.progress.advance(sum(len(c.answers) for c in before) + sum(len(q.scored) for q in scored if known.has(q)))
        missing = [c.question for c in before if c.is_open] + [q for q in scored if not known.has(q)]
        if missing:
            with dealt(((q.id, q) for q in missing), ctx.folder, ctx.worker_count) as parts:
                ctx.spread(self.answer, parts.shards)
        own = [asking.conversation(q) for q in questions if not q.scored]
        if lost := sum(c.is_open for c in own):
            raise ModelError(f"{row} has left out answers to {lost} of {len(own)} questions; expected all of them")
        engine = self.config.engine
        served = {"answered_by": f"served by {engine.engine.name}"} if engine else {}
        scores = stored_scores(scored, self._journal(ctx))
        return _written(ctx, questions, own, scores, self.model.policy.thinking) | served


def _written(
    ctx: Context,
    questions: Sequence[Question],
    conversations: "Sequence[Conversation]",
    scored: Scored,
    thinking: Thinking,
) -> dict[str, Any]:
    """Write the answers to the questions, in their order; returns the stage's report. `conversations`: of those that
    are not scored, then others."""
    thoughts = Thoughts(thinking)
    first = iter(conversations)
    answers = [scored.answer(q) if q.scored else answer_of(next(first), thoughts) for q in questions]
    thought = thoughts.report
    write_rows(ctx.folder / "answers.jsonl", answers)
    cut = sum(reason == "length" for a in answers for reason in a.finish_reasons)
    tokens = sum(a.tokens or 0 for a in answers)
    cut_contexts = sum(scored.of(question).cut for question in questions if question.scored)
    report = {"questions": len(answers), "tokens": tokens, "cut_at_token_limit": cut, **thought}
    return report | ({"cut_contexts": cut_contexts} if cut_contexts else {})


def _estimate(benchmark: Benchmark, config: AnswerSampling, policy: Policy, *, starts: bool) -> Estimate:
    """`starts`: an engine, if there is one, is started for this row alone."""
    turns = turn_count(benchmark)
    _, tokens = written(benchmark, config)
    scored = 0
    if not (is_offline() and benchmark.published_turns is not None):
        questions = benchmark.load_questions()
        scored = sum(_characters(context) + len(text) for q in questions for context, text in q.scored)
        scored //= CHARACTERS_PER_TOKEN
    gpus = config.engine.engine.gpus if config.engine else None
    loads = answering(policy.model, policy.dtype, turns, tokens, config.most_tokens, scored, gpus)
    asked = turns * REPLY_SECONDS / config.parallel_requests + (START if starts else 0.0)
    waiting = asked if config.engine else loading([policy.model])
    return Estimate(generated_tokens=tokens, scored_tokens=scored, loads=loads, waiting=waiting)


def written(benchmark: Benchmark, config: AnswerSampling) -> tuple[int, int]:
    """(the turns that are answered with texts, the tokens that these have at most)."""
    if is_offline() and benchmark.published_turns is not None:
        return benchmark.published_turns, benchmark.published_turns * config.most_tokens
    questions = [q for q in benchmark.load_questions() if not q.scored]
    tokens = sum(len(q.turns) * (q.max_new_tokens or config.most_tokens) for q in questions)
    return sum(len(q.turns) for q in questions), tokens


def _characters(context: Messages | str) -> int:
    return len(context) if isinstance(context, str) else sum(len(message.content) for message in context)


def turn_count(benchmark: Benchmark) -> int:
    """The turns of all questions of a benchmark."""
    if is_offline() and benchmark.published_turns is not None:
        return benchmark.published_turns
    return once(("turns", id(benchmark)), lambda: (benchmark, sum(len(q.turns) for q in benchmark.load_questions())))[1]


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
