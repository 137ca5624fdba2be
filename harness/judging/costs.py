"""What judging will cost, for `harness plan`, and what it has cost, for a run's last lines and the board."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.benchmark import Benchmark
from harness.engine.journal import content_key
from harness.engine.stage import Stage
from harness.engine.store import Store
from harness.errors import CostError
from harness.judging.asker import make_ask, unpriced
from harness.protocols import Judge
from harness.recipe.evaluation import Evaluation
from harness.recipe.recipe import Recipe
from harness.servers.adapting.chatting import as_sent
from harness.servers.batches.batching import Batching
from harness.servers.prices import at_most, dollars, price_table
from harness.servers.spending import JudgeCost, Spending, total
from harness.types import FREE, Answer, Ask, JudgeReply, JudgeRequest, Price

BYTES_PER_TOKEN = 4
"""Roughly, for English text and common tokenizers."""
REPLY_TOKENS = 200
"""The length of a typical reply with an explanation: GPT-4's recorded MT-bench judgments average 182 and 207."""


def journal_name(judge: Judge) -> str:
    """The name of the journal of a judge's replies."""
    return f"verdicts-{content_key(judge.identity())[:16]}"


def journal_of(judge: Judge, store: Store) -> Path:
    """The journal of a judge's replies."""
    return store.journals / f"{journal_name(judge)}.jsonl"


def plan_judging(
    evaluation: Evaluation,
    benchmark: Benchmark,
    store: Store,
    answers: Stage,
    reference: Stage | None,
    among: frozenset[str] | None = None,
) -> JudgeCost | None:
    """What judging one row's answers may cost; None for a judge that is free. The estimate uses the real prompts if the
    answers are in the store, and otherwise placeholder answers of the maximum length. `among`: the questions that are
    asked about, if not all."""
    table = price_table(evaluation.prices)
    judges = [judge for judge in judges_of(evaluation.judge_of(benchmark)) if judge.token_price(table) != FREE]
    if not judges:
        return None
    longest = evaluation.answers.max_new_tokens
    loaded = [_answers(benchmark, store, stage, longest) for stage in (answers, reference) if stage is not None]
    requests: list[JudgeRequest] = []

    def collect(batch: Sequence[JudgeRequest]) -> list[JudgeReply]:
        requests.extend(batch)
        return [JudgeReply(text="", error="only planned")] * len(batch)

    judged = [answer for answer in loaded[0][0] if among is None or answer.question_id in among]
    benchmark.verdicts(judged, loaded[1][0] if reference is not None else [], Ask(collect))
    distinct = list(dict.fromkeys(requests))
    basis = "the answers" if all(real for _, real in loaded) else f"answers of {longest} tokens"
    costs = [_cost(judge, journal_of(judge, store), distinct, judge.token_price(table), basis) for judge in judges]
    return total(costs, basis)


def _cost(judge: Judge, journal: Path, requests: Sequence[JudgeRequest], price: Price | None, basis: str) -> JudgeCost:
    if price and isinstance(judge, Batching) and judge.mode == "batch":
        price = price.in_batch()
    missing = make_ask(judge, journal, concurrency=1, advance=lambda _: None).missing(requests)
    prompt_tokens = sum(math.ceil(len(m.content.encode()) / BYTES_PER_TOKEN) for r in missing for m in r.messages)
    reply_tokens = sum(min(as_sent(judge, r).max_tokens, REPLY_TOKENS) for r in missing)
    return JudgeCost(
        calls=len(missing),
        answered=len(requests) - len(missing),
        prompt_tokens=prompt_tokens,
        reply_tokens=reply_tokens,
        dollars=price.of(prompt_tokens, reply_tokens) if price else None,
        at_most=sum(at_most(as_sent(judge, r), price) for r in missing) if price else None,
        basis=basis,
    )


def _answers(benchmark: Benchmark, store: Store, stage: Stage, longest: int) -> tuple[list[Answer], bool]:
    """A row's answers, and whether they are the real ones rather than placeholders."""
    artifact = store.find(stage.key)
    if artifact is not None:
        return artifact.rows("answers.jsonl", Answer), True
    text = stage.key[:BYTES_PER_TOKEN] * longest  # different for each row, since equal answers aren't judged
    placeholders = [
        Answer(question_id=q.id, turns=(text,) * len(q.turns), finish_reasons=("length",) * len(q.turns), tokens=None)
        for q in benchmark.load_questions()
    ]
    return placeholders, False


def judges_of(part: object) -> Iterator[Judge]:
    """Every judge in a part of a recipe: those of benchmarks and those that rate responses; for a panel, its
    members."""
    if isinstance(part, Judge) and part.members:
        yield from judges_of(part.members)
    elif isinstance(part, Judge):
        yield part
    elif isinstance(part, BaseModel):
        yield from judges_of([value for _, value in part])
    elif isinstance(part, list | tuple | dict):
        for item in part.values() if isinstance(part, dict) else part:
            yield from judges_of(item)


def price_lines(recipes: Sequence[Recipe]) -> list[str]:
    """A line for each judge of the recipes whose price isn't known, which says how to give one."""
    lines: dict[str, None] = {}
    for recipe in recipes:
        table = price_table(recipe.evaluation.prices if recipe.evaluation else None)
        lines |= dict.fromkeys(unpriced(judge) for judge in judges_of(recipe) if judge.token_price(table) is None)
    return list(lines)


def start_spending(recipes: Sequence[Recipe], limit: float | None) -> Spending:
    """The spending of a run that is about to start. Raises CostError if a judge's price is unknown, so that the limit
    can't be kept, and DataError for a price table that can't be read; both before anything runs."""
    tables = [recipe.evaluation.prices for recipe in recipes if recipe.evaluation and recipe.evaluation.prices]
    spending = Spending(limit, tables[0] if tables else None)
    unpriced_judges = [judge for judge in judges_of(recipes) if judge.token_price(spending.table) is None]
    if limit is not None and unpriced_judges:
        raise CostError(f"--max-cost {limit:g} can't be kept: {unpriced(unpriced_judges[0])}")
    return spending


BOARD_FIELDS = ("unreadable", "prompt_tokens", "completion_tokens", "dollars")


def board_ledger(report: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a verdict stage's ledger that a board row shows: only what doesn't depend on how often the run was
    stopped. Empty if no judge was asked."""
    if "dollars" not in report:
        return {}
    replies = report["asked"] + report["from_journal"]
    rest = {name: report[name] for name in ("models", "adapted", "panel") if report.get(name)}
    return {"replies": replies, **{name: report[name] for name in BOARD_FIELDS}, **rest}


def judging_summary(reports: Iterable[Mapping[str, Any]], spending: Spending) -> str | None:
    """A run's last line about judging; None if nothing was judged."""
    ledgers = [ledger for report in reports if (ledger := board_ledger(report))]
    if not ledgers:
        return None
    cost = None if any(x["dollars"] is None for x in ledgers) else sum(x["dollars"] for x in ledgers)
    tokens = f"{sum(x['prompt_tokens'] for x in ledgers):,} + {sum(x['completion_tokens'] for x in ledgers):,}"
    unreadable = sum(x["unreadable"] for x in ledgers)
    replies = f"{sum(x['replies'] for x in ledgers):,} replies{f' ({unreadable} unreadable)' if unreadable else ''}"
    spent = None if spending.unpriced else spending.spent
    return (
        f"Judging: {replies}, "
        f"{tokens} tokens, {dollars(cost)} in all; {spending.calls:,} of this run, {dollars(spent)}."
    )
