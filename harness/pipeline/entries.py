"""Builds a board's entries from a run's artifacts."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from harness.benchmark import Benchmark, Published
from harness.boards.entry import Entry
from harness.boards.provenance import (
    JudgeCalibration,
    JudgingFacts,
    Provenance,
    RegisteredFacts,
    SweepAxisFacts,
    SweepFacts,
)
from harness.components import identity
from harness.engine.execute import ExecutionResult
from harness.engine.provenance import committed_since
from harness.engine.stage import Stage
from harness.figures import ANSWER_FIGURES
from harness.judging.calibration.record import calibration_of
from harness.judging.costs import board_ledger
from harness.pipeline.plan import Plan
from harness.pipeline.planning.row import PlannedRow
from harness.pipeline.provenance.guarded import with_guards
from harness.pipeline.provenance.joined import joined
from harness.pipeline.provenance.training import training_facts
from harness.pipeline.selection.choose import left_out, with_selection
from harness.pipeline.study import StudyPlan, StudyRow
from harness.recipe.checks import with_folded
from harness.recipe.evaluation import Evaluation
from harness.recipe.load import recipe_dict
from harness.recipe.policy import policy_identity
from harness.recipe.recipe import Recipe
from harness.recipe.sweep import Axis
from harness.stages._metrics import categories, metrics, outcomes, resamples
from harness.types import Metric

RECORDED = "recorded verdicts, not judged again"


def make_entries(plan: StudyPlan, executed: ExecutionResult) -> list[Entry]:
    """One entry per row: the untrained base first, then the methods in the recipe's order; in a sweep, cell by cell."""
    committed = committed_since(plan.study.file.absolute()) if plan.study.file else None
    own = [_entry(row, plan.study.axes, executed, committed) for row in plan.rows]
    unreported = left_out(plan, own)
    own = with_selection(plan, own, executed)
    own = [with_guards(entry, row, executed, unreported) for entry, row in zip(own, plan.rows, strict=True)]
    entries = [_as_calibrated(entry, row.cell.recipe) for entry, row in zip(own, plan.rows, strict=True)]
    benchmarks: dict[str, Benchmark] = {}
    for cell in plan.study.cells:
        for benchmark in _benchmarks(cell.recipe):
            benchmarks.setdefault(benchmark.name, benchmark)
    for benchmark in benchmarks.values():
        if published := benchmark.published():
            entries += published_rows(benchmark, published, entries)
    return entries


def _benchmarks(recipe: Recipe) -> list[Benchmark]:
    return recipe.evaluation.benchmarks if recipe.evaluation else []


PUBLISHED = "public"
"""The method of a public leaderboard's rows."""


def published_rows(benchmark: Benchmark, published: Published, entries: Sequence[Entry]) -> list[Entry]:
    """A public leaderboard's rows. They share the table of entries whose verdicts are by the same judge on the same
    prompts; if there are none, they have their own table."""
    provenance = Provenance.model_validate(published.provenance)
    for entry in entries:
        judge, measured = entry.provenance.judge or {}, entry.provenance.benchmark(benchmark.name)
        if judge.get("recorded_by") == published.judge and published.comparable(measured):
            shared = Provenance(judge=judge, benchmarks=entry.provenance.benchmarks)
            provenance = joined([provenance, shared])
            break
    return [
        Entry(id=name, method=PUBLISHED, metrics=metrics, provenance=provenance, figures=benchmark.figures)
        for name, metrics in published.rows.items()
    ]


def recorded_by(plan: Plan, row: PlannedRow, executed: ExecutionResult) -> str:
    """Who gave a row's recorded verdicts: `alpaca_eval: NAME; mt_bench: NAME`. For a benchmark on which this row has
    none, the judge of the other rows: rows of one judge share a table, whatever benchmarks each was judged on."""
    all_judges: dict[str, set[str]] = {}
    for other in plan.rows:
        for name, judge in _recorded_judges(other, executed).items():
            all_judges.setdefault(name, set()).add(judge)
    judges = {name: next(iter(names)) for name, names in all_judges.items() if len(names) == 1}
    judges |= _recorded_judges(row, executed)
    return "; ".join(f"{name}: {judge}" for name, judge in sorted(judges.items()))


def _recorded_judges(row: PlannedRow, executed: ExecutionResult) -> dict[str, str]:
    reports = _reports(row.verdicts, executed).items()
    return {name: report["recorded_by"] for name, report in reports if "recorded_by" in report}


def _reports(stages: Mapping[str, Stage], executed: ExecutionResult) -> dict[str, dict[str, Any]]:
    return {name: executed.artifacts[stage.key].report for name, stage in stages.items()}


def _entry(
    member: StudyRow, axes: Sequence[Axis], executed: ExecutionResult, committed: tuple[str, datetime] | None
) -> Entry:
    row = member.row
    figures: dict[str, Metric] = {}
    details: dict[str, dict[str, float | None]] = {}
    row_resamples: dict[str, list[float]] = {}
    if row.heldout:
        heldout = executed.artifacts[row.heldout.key]
        figures |= metrics(heldout)
        details["heldout"] = outcomes(heldout, "heldout")
    for name, stage in row.verdicts.items():
        artifact = executed.artifacts[stage.key]
        figures |= metrics(artifact)
        details[name] = outcomes(artifact, "verdicts")
        row_resamples |= resamples(artifact)
    for scored in (executed.artifacts[stage.key] for stage in (row.rewards, row.kl) if stage):
        figures |= metrics(scored)
        details |= scored.json("outcomes.json")
    judged = [benchmark for benchmark in _benchmarks(member.cell.recipe) if benchmark.name in row.verdicts]
    declared = {benchmark.name: benchmark.figures_of(identity(benchmark)) for benchmark in judged}
    # A benchmark that has figures by category asks a fixed number of prompts of each.
    stratified = [name for name, own in declared.items() if any(figure.part_of for figure in own)]
    return Entry(
        id=row.id,
        method=row.method,
        metrics=figures,
        provenance=_provenance(member, axes, executed, committed),
        outcomes=details,
        resamples=row_resamples,
        figures=(
            *(figure for own in declared.values() for figure in own),
            *(figure for figure in ANSWER_FIGURES if figure.metric in figures),
        ),
        strata={name: categories(executed.artifacts[row.verdicts[name].key]) for name in stratified},
    )


def _provenance(
    member: StudyRow, axes: Sequence[Axis], executed: ExecutionResult, committed: tuple[str, datetime] | None
) -> Provenance:
    """Everything that decides a row's figures. Without times of the run, so that equal runs give equal boards."""
    recipe, row = member.cell.recipe, member.row
    parts = [_run_facts(recipe, member.plan, row, executed)]
    if recipe.evaluation:
        parts.append(_judge_facts(recipe.evaluation, member.plan, row, executed))
    parts.append(training_facts(row, executed))
    if axes:
        parts.append(Provenance(sweep=_sweep_facts(member, axes)))
    if member.cell.auto_dtype:
        parts.append(Provenance(auto_dtype=member.cell.auto_dtype))
    if committed:
        parts.append(Provenance(registered=_registered(row, executed, *committed)))
    return joined(parts)


def _registered(row: PlannedRow, executed: ExecutionResult, commit: str, time: datetime) -> RegisteredFacts:
    """When the recipe was committed, and whether all of the row's own results are later."""
    earliest = min(executed.artifacts[stage.key].finished for stage in row.stages)
    return RegisteredFacts(commit=commit, time=time.isoformat(), came_first=earliest >= time)


def _run_facts(recipe: Recipe, plan: Plan, row: PlannedRow, executed: ExecutionResult) -> Provenance:
    """The recipe, the stages and their reports on data and answers."""
    stages = {
        name: stage
        for name, stage in plan.data.items()
        if not name.startswith(("reference/", "sft/")) and name not in ("report", "dataset")
    }
    stages |= row.data
    if row.heldout and "reference" in row.heldout.inputs:
        stages["reference"] = row.heldout.inputs["reference"]
    data = _reports(stages, executed)
    if "report" in plan.data and "ranked" not in row.data:  # else of an earlier round's data
        data |= _reports({"report": plan.data["report"]}, executed)
    if recipe.data and recipe.policy and "seeds" in data:  # the base row of a sweep has no single dataset
        data["seeds"] = with_folded(data["seeds"], recipe.data, recipe.policy.model)
    last = row.heldout or row.stages[-1]
    facts = Provenance(
        recipe=recipe_dict(recipe),
        seed=recipe.seed,
        data=data,
        leaks={name: report["leaks"] for name, report in data.items() if report.get("leaks")},
        keys={stage.id: stage.key for stage in (*stages.values(), *([row.sft] if row.sft else []), *row.stages)},
        answers=_reports(row.answers, executed),
        **({"heldout": executed.artifacts[row.heldout.key].report} if row.heldout else {}),
        **({"kl": executed.artifacts[row.kl.key].report} if row.kl else {}),
        # From the process that computed the row, not the one that writes the board.
        made_by=executed.artifacts[last.key].record.made_by,
    )
    if recipe.policy and row.system is None:
        return joined([facts, Provenance(policy=policy_identity(recipe.policy))])
    return facts


def _judge_facts(evaluation: Evaluation, plan: Plan, row: PlannedRow, executed: ExecutionResult) -> Provenance:
    """The judges and benchmarks, what judging cost, and what the answers were compared with."""
    own_judges = {name: {"judge": identity(judge)} for name, judge in evaluation.judges.items()}
    judge = identity(evaluation.judge) if evaluation.judge else None
    judged = {b.name for b in evaluation.judged}
    reports = _reports({name: stage for name, stage in row.verdicts.items() if name in judged}, executed)
    facts = Provenance(
        **({"judge": judge, "judge_calibration": "uncalibrated"} if judge else {}),
        benchmarks={b.name: {**identity(b), **own_judges.get(b.name, {})} for b in evaluation.benchmarks},
    )
    if evaluation.is_replay:
        judge = {**(judge or {}), "recorded_by": recorded_by(plan, row, executed)}
        verdicts = Provenance(judge=judge, judge_calibration=RECORDED, verdicts=reports)
    else:
        ledgers = {name: JudgingFacts.model_validate(board_ledger(report)) for name, report in reports.items()}
        ledgers |= {
            f"{name} (gold)": JudgingFacts.model_validate(board_ledger(report))
            for name, report in _reports(row.gold, executed).items()
        }
        verdicts = Provenance(judging=ledgers)
    # Only references that are another row's answers are stages.
    inputs = {name: stage.inputs.get("reference") for name, stage in row.verdicts.items()}
    references = {name: stage.key for name, stage in inputs.items() if stage is not None}
    return joined([facts, verdicts, *([Provenance(references=references)] if references else [])])


def _sweep_facts(member: StudyRow, axes: Sequence[Axis]) -> SweepFacts:
    return SweepFacts(
        row=member.id_in_cell,
        cells=tuple(cell.settings for cell in member.stands_in),
        axes=tuple(
            SweepAxisFacts(name=axis.name, fields=axis.fields, values=tuple(label for label, _ in axis.choices))
            for axis in axes
        ),
    )


def _as_calibrated(entry: Entry, recipe: Recipe) -> Entry:
    """The row with how its judge relates to an official one, and what that one would say of the row's figures."""
    if recipe.evaluation is None or recipe.evaluation.judge is None or recipe.evaluation.is_replay:
        return entry
    found = _calibration(recipe.evaluation, entry.metrics)
    return entry.model_copy(update={"provenance": entry.provenance.model_copy(update={"judge_calibration": found})})


def _calibration(evaluation: Evaluation, rates: Mapping[str, Metric]) -> JudgeCalibration | str:
    """How the judge relates to an official one, by the first benchmark that has one. `rates`: the row's figures."""
    rules = dict.fromkeys(evaluation.judge_of(benchmark).rule for benchmark in evaluation.judged)
    if rules and None not in rules:  # a board says one thing about all of its judges
        return JudgeCalibration(verdict="rule", text=f"a rule, exact by definition: {'; '.join(filter(None, rules))}")
    for benchmark in evaluation.judged:
        if by := benchmark.calibrated_by:
            calibration = calibration_of(identity(evaluation.judge_of(benchmark)), by.annotator, by.asked)
            if calibration is None:
                break
            equivalents = {}
            if by.figure is not None and by.figure in rates and calibration.official == by.annotator:
                equivalent = calibration.equivalent(rates[by.figure])
                equivalents = {} if equivalent is None else {by.figure: equivalent}
            return calibration.on_board(equivalents)
    return "uncalibrated"
