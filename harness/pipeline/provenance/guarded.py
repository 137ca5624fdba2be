"""The validity guards that fire for a row, as its entry has them."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.benchmark import Benchmark
from harness.boards.entry import Entry
from harness.boards.provenance import GuardFlag, Provenance
from harness.components import identity
from harness.engine.execute import ExecutionResult
from harness.engine.stage import Stage
from harness.pipeline.guards import (
    Flag,
    answer_flags,
    family_flag,
    leak_flag,
    overoptimised_flag,
    precision_flag,
    thoughts_of,
)
from harness.pipeline.planning.row import PlannedRow
from harness.pipeline.provenance.joined import joined
from harness.pipeline.selection.prompts import kept_scores
from harness.pipeline.study import StudyRow
from harness.recipe.recipe import BASE
from harness.stages._metrics import metrics
from harness.stages.proxies.answers import gains_over
from harness.stats.paired import prompt_of
from harness.types import Answer

LeftOut = Mapping[str, frozenset[str]]
"""By benchmark, the prompts that no figure is of, because something was chosen on them."""


def with_guards(entry: Entry, member: StudyRow, executed: ExecutionResult, left_out: LeftOut) -> Entry:
    """The row with its guards that fire, by benchmark; those of the row as a whole under `row`. They look at what the
    row's figures are of."""
    about, evaluation = entry.provenance, member.cell.recipe.evaluation
    flags: dict[str, list[Flag]] = {}
    row_flags: list[Flag | None] = []
    if evaluation:
        for benchmark in evaluation.benchmarks:
            if benchmark.name in member.row.answers:
                unreported = left_out.get(benchmark.name, frozenset())
                flags[benchmark.name] = _of_answers(benchmark, member.row, about, executed, unreported)
        row_flags.append(leak_flag(about.leaks, about.data))
        if about.policy is not None:
            judges = [identity(evaluation.judge_of(benchmark)) for benchmark in evaluation.judged]
            row_flags += {flag.text: flag for j in judges if (flag := family_flag(j, about.policy))}.values()
    if member.row.rewards:
        row_flags.append(overoptimised_flag(_gains(member, member.row.rewards, executed, left_out)))
    if member.row.heldout:
        heldout = executed.artifacts[member.row.heldout.key]
        mergeable = member.row.adapter is not None and member.row.adapter.bits is None
        row_flags.append(precision_flag(metrics(heldout), heldout.report["dtype"], mergeable=mergeable))
    flags["row"] = [flag for flag in row_flags if flag is not None]
    guards = {
        name: tuple(GuardFlag.model_validate(flag.model_dump(mode="json")) for flag in fired)
        for name, fired in flags.items()
        if fired
    }
    if not guards:
        return entry
    return entry.model_copy(update={"provenance": joined([about, Provenance(guards=guards)])})


def _of_answers(
    benchmark: Benchmark, row: PlannedRow, about: Provenance, executed: ExecutionResult, left_out: frozenset[str]
) -> list[Flag]:
    answers: Sequence[Answer] = executed.artifacts[row.answers[benchmark.name].key].rows("answers.jsonl", Answer)
    report = about.answers[benchmark.name]
    if left_out:
        answers = [answer for answer in answers if prompt_of(answer.question_id) not in left_out]
        report = {**report, "thoughts": thoughts_of(answers, report.get("thoughts"))}
    reference = row.verdicts[benchmark.name].inputs.get("reference")
    others = executed.artifacts[reference.key].rows("answers.jsonl", Answer) if reference else []
    return answer_flags(answers, benchmark.reference_texts(others), report, judged=benchmark.judged)


def _gains(member: StudyRow, rewards: Stage, executed: ExecutionResult, left_out: LeftOut) -> Mapping[str, Any]:
    """The row's gains over base by the known truth and its proxy."""
    artifact = executed.artifacts[rewards.key]
    base = next((row.rewards for row in member.plan.rows if row.id == BASE), None)
    if not left_out or base is None:
        return artifact.report
    outcomes, of_base = artifact.json("outcomes.json"), executed.artifacts[base.key].json("outcomes.json")
    for benchmark, prompts in left_out.items():
        outcomes, of_base = (
            {name: kept_scores(scores, benchmark, prompts) for name, scores in of.items()} for of in (outcomes, of_base)
        )
    return gains_over(outcomes, of_base)
