"""The stages of a row's answers to a benchmark: written by the policy, or read from a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import files
from harness.benchmark import Benchmark, Names, Wanted
from harness.components import identity, question_identity
from harness.engine.stage import Context, Estimate, Stage, derived_seed
from harness.engine.store import write_rows
from harness.errors import DataError
from harness.memo import once
from harness.models import chat
from harness.models import load as models
from harness.models.workload import GENERATING, loading, work
from harness.recipe.recipe import AnswerSampling, RecordedFile, System, policy_identity
from harness.training.checkpoint import RowModel
from harness.types import Answer, FinishReason, Message, Question, Sampling


def answers_stage(row: str, model: RowModel, config: AnswerSampling, benchmark: Benchmark, seed: int) -> Stage:
    """A row's answers to a benchmark: `answers.jsonl`. Turn by turn, each with the conversation so far in context."""
    name = identity(benchmark)["name"]
    policy = model.policy
    seed = derived_seed(seed, "answers")

    def body(ctx: Context) -> dict[str, Any]:
        from harness.models.batching import Job
        from harness.models.decoding import decode_all

        questions = benchmark.load_questions()
        tokenizer = models.load_tokenizer(policy.model, policy.revision)
        causal_lm = model.load(ctx, policy.dtype)
        messages: dict[str, list[Message]] = {q.id: [] for q in questions}
        turns: dict[str, list[tuple[str, FinishReason, int]]] = {q.id: [] for q in questions}
        for turn in range(max(len(q.turns) for q in questions)):
            asked = [q for q in questions if turn < len(q.turns)]
            for q in asked:
                messages[q.id].append(Message(role="user", content=q.turns[turn]))
            ctx.progress.start(f"{row} answers {name}, turn {turn + 1}", len(asked))
            jobs = [
                Job(chat.encode_prompt(tokenizer, messages[q.id]), _sampling(config, q), (q.sample,)) for q in asked
            ]
            texts = decode_all(causal_lm, tokenizer, jobs, seed=seed, batch_size=None, advance=ctx.progress.advance)
            for q, (text,) in zip(asked, texts, strict=True):
                messages[q.id].append(Message(role="assistant", content=text.text))
                turns[q.id].append((text.text, text.finish_reason, text.tokens))
        answers = [_answer(q, turns[q.id]) for q in questions]
        write_rows(ctx.folder / "answers.jsonl", answers)
        cut = sum(reason == "length" for a in answers for reason in a.finish_reasons)
        return {"questions": len(answers), "tokens": sum(a.tokens or 0 for a in answers), "cut_at_token_limit": cut}

    params = {
        "policy": policy_identity(policy),
        "questions": question_identity(benchmark),
        "sampling": config.model_dump(mode="json"),
        "seed": seed,
        **({"bits": model.bits} if model.bits else {}),
    }

    def estimate() -> Estimate:
        tokens, loaded = turn_count(benchmark) * config.max_new_tokens, [policy.model]
        computed = work(loaded, tokens, GENERATING)
        return Estimate(generated_tokens=tokens, work=computed, waiting=loading(loaded))

    return Stage(f"answers/{name}/{row}", "answers", 2, params, model.inputs, body, estimate)


def turn_count(benchmark: Benchmark) -> int:
    """The turns of all questions of a benchmark."""
    return once(("turns", id(benchmark)), lambda: (benchmark, sum(len(q.turns) for q in benchmark.load_questions())))[1]


def _sampling(config: AnswerSampling, question: Question) -> Sampling:
    temperature = question.temperature if config.temperature is None else config.temperature
    return Sampling(temperature=temperature, top_p=config.top_p, max_new_tokens=config.max_new_tokens)


def _answer(question: Question, turns: Sequence[tuple[str, FinishReason, int]]) -> Answer:
    return Answer(
        question_id=question.id,
        turns=tuple(text for text, _, _ in turns),
        finish_reasons=tuple(reason for _, reason, _ in turns),
        tokens=sum(tokens for _, _, tokens in turns),
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
