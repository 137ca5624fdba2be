"""What judging will cost, for `harness plan`, and what it has come to, for a run's last lines and the board."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.errors import CostError
from harness.journal import content_key
from harness.judging import make_ask, unpriced
from harness.protocols import Benchmark
from harness.recipe import Evaluation, Recipe
from harness.spending import FREE, JudgeCost, Price, Spending, at_most, dollars, price_of, price_table, total
from harness.stages import Stage
from harness.store import Store
from harness.types import Answer, JudgeReply, JudgeRequest

BYTES_PER_TOKEN = 4
"""Of English text, about, in the usual tokenizers."""
REPLY_TOKENS = 200
"""A usual reply with an explanation: GPT-4's recorded MT-bench judgments have 182 and 207 in the mean."""


def journal_name(judge: Any) -> str:
    """The name of the journal of a judge's replies."""
    return f"verdicts-{content_key(judge.identity())[:16]}"


def journal_of(judge: Any, store: Store) -> Path:
    """The journal of a judge's replies."""
    return store.journals / f"{journal_name(judge)}.jsonl"


def plan_judging(
    evaluation: Evaluation, benchmark: Benchmark, store: Store, answers: Stage, reference: Stage | None
) -> JudgeCost | None:
    """What judging one row's answers may cost; None for a judge that costs nothing. The prompts are those that will be
    sent where the answers are in the store; else answers as long as they may be stand in for them."""
    table = price_table(evaluation.prices)
    judges = [judge for judge in judges_of(evaluation.judge_of(benchmark)) if price_of(judge, table) != FREE]
    if not judges:
        return None
    longest = evaluation.answers.max_new_tokens
    found = [_answers(benchmark, store, stage, longest) for stage in (answers, reference) if stage is not None]
    requests: list[JudgeRequest] = []

    def note(asked: Sequence[JudgeRequest]) -> list[JudgeReply]:
        requests.extend(asked)
        return [JudgeReply(text="", error="only planned")] * len(asked)

    benchmark.verdicts(found[0][0], found[1][0] if reference is not None else [], note)
    distinct = list(dict.fromkeys(requests))
    basis = "the answers" if all(known for _, known in found) else f"answers of {longest} tokens"
    costs = [_cost(judge, journal_of(judge, store), distinct, price_of(judge, table), basis) for judge in judges]
    return total(costs, basis)


def _cost(judge: Any, journal: Path, requests: Sequence[JudgeRequest], price: Price | None, basis: str) -> JudgeCost:
    left = make_ask(judge, journal, concurrency=1, advance=lambda _: None).missing(requests)
    prompt_tokens = sum(math.ceil(len(m.content.encode()) / BYTES_PER_TOKEN) for r in left for m in r.messages)
    reply_tokens = sum(min(r.max_tokens, REPLY_TOKENS) for r in left)
    return JudgeCost(
        calls=len(left),
        known=len(requests) - len(left),
        prompt_tokens=prompt_tokens,
        reply_tokens=reply_tokens,
        dollars=price.of(prompt_tokens, reply_tokens) if price else None,
        at_most=sum(at_most(r, price) for r in left) if price else None,
        basis=basis,
    )


def _answers(benchmark: Benchmark, store: Store, stage: Stage, longest: int) -> tuple[list[Answer], bool]:
    """A row's answers, and whether they are the real ones."""
    artifact = store.find(stage.key)
    if artifact is not None:
        return artifact.rows("answers.jsonl", Answer), True
    text = stage.key[:BYTES_PER_TOKEN] * longest  # another text for another row: equal answers aren't judged
    made = [
        Answer(question_id=q.id, turns=(text,) * len(q.turns), finish_reasons=("length",) * len(q.turns), tokens=None)
        for q in benchmark.questions()
    ]
    return made, False


def judges_of(part: Any) -> Iterator[Any]:
    """Every judge in a recipe: the evaluation's, and those that rate responses; of a panel its members."""
    if members := getattr(part, "members", ()):
        for member in members:
            yield from judges_of(member)
    elif callable(getattr(part, "reply", None)):
        yield part
    elif isinstance(part, BaseModel):
        for name in type(part).model_fields:
            yield from judges_of(getattr(part, name))
    elif isinstance(part, list | tuple | dict):
        for item in part.values() if isinstance(part, dict) else part:
            yield from judges_of(item)


def start_spending(recipes: Sequence[Recipe], limit: float | None) -> Spending:
    """What a run's judges have cost: nothing yet. Raises CostError where the limit can't be kept because a judge's
    price isn't known, and DataError for a price table that can't be read: before anything runs."""
    tables = [recipe.evaluation.prices for recipe in recipes if recipe.evaluation and recipe.evaluation.prices]
    spending = Spending(limit, tables[0] if tables else None)
    unknown = [judge for judge in judges_of(recipes) if price_of(judge, spending.table) is None]
    if limit is not None and unknown:
        raise CostError(f"--max-cost {limit:g} can't be kept: {unpriced(unknown[0])}")
    return spending


LASTING = ("unreadable", "prompt_tokens", "completion_tokens", "dollars")


def lasting(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a board row says of a verdict stage's ledger: nothing that depends on how often the run was stopped. Empty
    where no judge was asked."""
    if "dollars" not in report:
        return {}
    replies = report["asked"] + report["from_journal"]
    panel = {"panel": report["panel"]} if "panel" in report else {}
    return {"replies": replies, **{name: report[name] for name in LASTING}, **panel}


def summary(reports: Iterable[Mapping[str, Any]], spending: Spending) -> str | None:
    """A run's last line about judging; None where nothing was judged."""
    found = [ledger for report in reports if (ledger := lasting(report))]
    if not found:
        return None
    total = None if any(f["dollars"] is None for f in found) else sum(f["dollars"] for f in found)
    tokens = f"{sum(f['prompt_tokens'] for f in found):,} + {sum(f['completion_tokens'] for f in found):,}"
    unreadable = sum(f["unreadable"] for f in found)
    spent = None if spending.unpriced else spending.spent
    return (
        f"Judging: {sum(f['replies'] for f in found):,} replies{f' ({unreadable} unreadable)' if unreadable else ''}, "
        f"{tokens} tokens, {dollars(total)} in all; {spending.calls:,} of this run, {dollars(spent)}."
    )
