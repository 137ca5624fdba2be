"""The stages of the verdicts on a row's answers to a benchmark: by a judge, read from a file, or gold ones on a part of
the prompts."""

import random
from collections.abc import Sequence
from typing import Any

from harness.benchmark import Benchmark
from harness.components import identity
from harness.engine.stage import Context, Estimate, Spreads, Stage, derived_seed
from harness.engine.store import Store, write_rows
from harness.errors import ComponentError
from harness.judging.asker import Asker, make_ask
from harness.judging.costs import REPLY_TOKENS, journal_name, journal_of, plan_judging
from harness.judging.panel import collect_verdicts, members_of
from harness.judging.spreading import SpreadAsker, computes
from harness.models.demand.loads import REPLY_SECONDS, loading
from harness.models.demand.parts import by_engines, scoring
from harness.printable import printable
from harness.protocols import Judge
from harness.recipe.evaluation import Evaluation, System
from harness.servers.addressed import engines_of
from harness.servers.prices import price_table
from harness.servers.spending import JudgeCost
from harness.stages._metrics import write_metrics
from harness.stages.answers import content_sha256, recorded_names, turn_count, whose
from harness.stats.paired import prompt_of
from harness.types import Answer, Ask, JudgeReply, JudgeRequest, Verdict

JUDGE_PROMPT = 400
"""Tokens of a judge's prompt besides the answers in it, roughly."""


def verdicts_stage(
    row: str, evaluation: Evaluation, benchmark: Benchmark, answers: Stage, reference: Stage | None, concurrency: int
) -> Stage:
    """The judge's verdicts on a row's answers, kept in a journal as they arrive: `verdicts.jsonl`, `metrics.json`.
    `concurrency`: requests to the judge at a time."""
    name = identity(benchmark)["name"]
    judge = evaluation.judge_of(benchmark)
    members = members_of(judge)

    def body(ctx: Context) -> dict[str, Any]:
        row_answers, reference_answers = _answers(ctx)
        verdicts, report = _collected(ctx, row, judge, evaluation, benchmark, concurrency, row_answers)
        write_rows(ctx.folder / "verdicts.jsonl", verdicts)
        write_metrics(ctx, benchmark.metrics(row_answers, reference_answers, verdicts))
        return report

    params: dict[str, Any] = {"judge": identity(judge), "benchmark": identity(benchmark)}
    if any(member.resamples for member in members):
        params["retries_invalid"] = evaluation.retries_invalid

    def estimate() -> Estimate:
        return _estimate(members, evaluation, benchmark, concurrency)

    def judging(store: Store) -> JudgeCost | None:
        return plan_judging(evaluation, benchmark, store, answers, reference)

    journals = frozenset(f"{journal_name(member)}/{name}" for member in members)
    return Stage(
        f"verdicts/{name}/{row}",
        "verdicts",
        6,
        params,
        _inputs(answers, reference),
        body,
        estimate,
        judging,
        exclusive=journals,
        spreads=_spreads(members),
        engines=engines_of(*members),
    )


def computed_verdicts_stage(row: str, benchmark: Benchmark, answers: Stage, reference: Stage | None) -> Stage:
    """What a benchmark without a judge computes from a row's answers: `verdicts.jsonl`, `metrics.json`."""
    name = identity(benchmark)["name"]

    def body(ctx: Context) -> dict[str, Any]:
        row_answers, reference_answers = _answers(ctx)
        ctx.progress.start(f"scoring {row} on {name}", 1)
        verdicts = benchmark.verdicts(row_answers, reference_answers, NOBODY)
        write_rows(ctx.folder / "verdicts.jsonl", verdicts)
        write_metrics(ctx, benchmark.metrics(row_answers, reference_answers, verdicts))
        ctx.progress.advance(1)
        return {"invalid": sum(v.value is None for v in verdicts)}

    params = {"benchmark": identity(benchmark)}
    return Stage(f"verdicts/{name}/{row}", "computed_verdicts", 1, params, _inputs(answers, reference), body)


def _nobody(requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
    raise ComponentError("a benchmark that declares `judged = False` has asked a judge: there is none")


NOBODY = Ask(_nobody)


def gold_stage(
    row: str,
    evaluation: Evaluation,
    judge: Judge,
    benchmark: Benchmark,
    answers: Stage,
    reference: Stage | None,
    seed: int,
    concurrency: int,
) -> Stage:
    """The verdicts of `evaluation.gold`'s judge on a random part of the prompts, which is the same for all rows:
    `verdicts.jsonl`, with a row for each question that was drawn."""
    name, members = identity(benchmark)["name"], members_of(judge)
    prompts = evaluation.gold.prompts if evaluation.gold else 0

    def body(ctx: Context) -> dict[str, Any]:
        drawn = drawn_questions(benchmark, prompts, seed)
        asked = [answer for answer in _answers(ctx)[0] if answer.question_id in drawn]
        verdicts, report = _collected(ctx, row, judge, evaluation, benchmark, concurrency, asked, len(drawn))
        verdicts = [verdict for verdict in verdicts if verdict.question_id in drawn]
        write_rows(ctx.folder / "verdicts.jsonl", verdicts)
        return {**report, "invalid": sum(v.value is None for v in verdicts)}

    params: dict[str, Any] = {"judge": identity(judge), "benchmark": identity(benchmark), "prompts": prompts}
    if any(member.resamples for member in members):
        params["retries_invalid"] = evaluation.retries_invalid

    def estimate() -> Estimate:
        return _estimate(members, evaluation, benchmark, concurrency, drawn_questions(benchmark, prompts, seed))

    def judging(store: Store) -> JudgeCost | None:
        asked = evaluation.model_copy(update={"judge": judge, "judges": {}})
        return plan_judging(
            asked, benchmark, store, answers, reference, among=drawn_questions(benchmark, prompts, seed)
        )

    return Stage(
        f"gold/{name}/{row}",
        "gold",
        1,
        {**params, "seed": seed},
        _inputs(answers, reference),
        body,
        estimate,
        judging,
        exclusive=frozenset(f"{journal_name(member)}/{name}" for member in members),
        spreads=_spreads(members),
        engines=engines_of(*members),
    )


def drawn_questions(benchmark: Benchmark, prompts: int, seed: int) -> frozenset[str]:
    """The ids of the questions that gold verdicts are asked for: a simple random sample of the prompts, each with all
    its samples. More prompts contain fewer."""
    questions = [question.id for question in benchmark.load_questions()]
    shuffled = sorted({prompt_of(question) for question in questions})
    random.Random(derived_seed(seed, "gold", benchmark.name)).shuffle(shuffled)
    drawn = set(shuffled[:prompts])
    return frozenset(question for question in questions if prompt_of(question) in drawn)


def _collected(
    ctx: Context,
    row: str,
    judge: Judge,
    evaluation: Evaluation,
    benchmark: Benchmark,
    concurrency: int,
    row_answers: Sequence[Answer],
    questions: int | None = None,
) -> tuple[list[Verdict], dict[str, Any]]:
    """A judge's verdicts on a row's answers, and the stage's report. `questions`: how many are asked about, if not
    all."""
    name, members, loaded = identity(benchmark)["name"], members_of(judge), benchmark.load_questions()
    turns = sum(len(q.turns) for q in loaded) if questions is None else questions * max(len(q.turns) for q in loaded)
    ctx.progress.start(f"judging {row} on {name}", turns * benchmark.requests_per_turn * len(members))
    verdicts, ledger, panel = collect_verdicts(
        judge,
        lambda member: _asker(ctx, member, evaluation, concurrency),
        lambda ask: benchmark.verdicts(row_answers, _answers(ctx)[1], ask),
        f"{row} on {name}",
    )
    if len(ledger.models) > 1 and len(members) == 1:
        models = printable(", ".join(f"{model} ({count})" for model, count in ledger.models.items()), 500)
        ctx.log.warning("%s on %s: the judge's replies came from several models: %s", row, name, models)
    return verdicts, {"invalid": sum(v.value is None for v in verdicts), **ledger.model_dump(mode="json"), **panel}


def _estimate(
    members: Sequence[Judge],
    evaluation: Evaluation,
    benchmark: Benchmark,
    concurrency: int,
    among: frozenset[str] | None = None,
) -> Estimate:
    """What judging a row costs; `among`: only these questions."""
    share = 1.0 if among is None else len(among) / len(benchmark.load_questions())
    calls = round(share * turn_count(benchmark)) * benchmark.requests_per_turn * len(members)
    served = [member for member in members if member.is_served]
    waiting = calls / len(members) * len(served) * REPLY_SECONDS / concurrency
    loaded = [model for member in members for model in member.models_in_process()]
    prompt, asked = JUDGE_PROMPT + 2 * evaluation.answers.max_new_tokens, calls // len(members)
    engines = [(engine.model, engine.gpus) for _, engine in engines_of(*members)]
    judged = [load for member in members for load in scoring(member, asked * prompt, prompt, 1)]
    loads = (*judged, *by_engines(engines, asked, REPLY_TOKENS, prompt))
    return Estimate(judge_calls=calls, loads=loads, waiting=waiting + loading(loaded))


def recorded_verdicts_stage(system: System, benchmark: Benchmark, answers: Stage, reference: Stage | None) -> Stage:
    """Recorded verdicts on a system's answers: `verdicts.jsonl`, `metrics.json`. Its report names the judge as
    `recorded_by`. A verdict that is missing from the file, or failed when it was recorded, is not scored."""
    name = identity(benchmark)["name"]
    recorded, answered = system.verdicts[name], system.answers[name]
    # The name of the model in the file of its answers is the most reliable one.
    in_answers = (answered.model,) if answered.model else recorded_names(benchmark, answered.file).models
    several, wanted = whose(benchmark, recorded, (*(in_answers if len(in_answers) == 1 else ()), system.id))

    def body(ctx: Context) -> dict[str, Any]:
        row_answers, reference_answers = _answers(ctx)
        verdicts, counts, judge = benchmark.recorded_verdicts(recorded.file, row_answers, *wanted)
        write_rows(ctx.folder / "verdicts.jsonl", verdicts)
        write_metrics(ctx, benchmark.metrics(row_answers, reference_answers, verdicts))
        return {"invalid": sum(v.value is None for v in verdicts), "file": counts, "recorded_by": judge}

    params = {"benchmark": identity(benchmark), "file_sha256": content_sha256(recorded.file), **several}
    inputs = _inputs(answers, reference)
    return Stage(f"verdicts/{name}/{system.id}", "recorded_verdicts", 3, params, inputs, body)


def _asker(ctx: Context, judge: Judge, evaluation: Evaluation, concurrency: int) -> Asker:
    journal, price = journal_of(judge, ctx.store), judge.token_price(price_table(evaluation.prices))
    if ctx.workers and computes(judge):
        return SpreadAsker(ctx, judge, journal, concurrency, evaluation.retries_invalid, price)
    return make_ask(
        judge,
        journal,
        concurrency=concurrency,
        advance=ctx.progress.advance,
        retries_invalid=evaluation.retries_invalid,
        price=price,
        spending=ctx.spending,
    )


def _spreads(members: Sequence[Judge]) -> Spreads:
    return "by resources" if any(map(computes, members)) else "nothing"


def _inputs(answers: Stage, reference: Stage | None) -> dict[str, Stage]:
    return {"answers": answers} | ({"reference": reference} if reference else {})


def _answers(ctx: Context) -> tuple[list[Answer], list[Answer]]:
    """The row's, and those of the row that it is compared with, if there is one."""
    reference = ctx.inputs["reference"].rows("answers.jsonl", Answer) if "reference" in ctx.inputs else []
    return ctx.inputs["answers"].rows("answers.jsonl", Answer), reference
