"""Board rows from a run's artifacts."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.benchmark import Benchmark, Published
from harness.boards.entry import Entry
from harness.boards.provenance import LossFacts
from harness.components import identity
from harness.engine.execute import ExecutionResult
from harness.engine.stage import Stage
from harness.engine.store import Artifact
from harness.figures import Figure
from harness.judging.calibration.record import calibration_of
from harness.judging.costs import board_ledger
from harness.pipeline.guards import Flag, answer_flags, family_flag, leak_flag
from harness.pipeline.plan import Plan, PlannedRow
from harness.pipeline.study import StudyPlan, StudyRow
from harness.protocols import Loss
from harness.recipe.load import recipe_dict
from harness.recipe.recipe import Evaluation, Recipe, policy_identity
from harness.recipe.sweep import Axis
from harness.recipe.systems import is_replay
from harness.stages.metrics import metrics, outcomes, resamples
from harness.training.steps import read_steps
from harness.types import Answer, Metric

RECORDED = "recorded verdicts, not judged again"
CURVE = 100


def make_entries(plan: StudyPlan, executed: ExecutionResult) -> list[Entry]:
    """One entry a row, the untrained base first, then the methods in the recipe's order; of a sweep, cell by cell."""
    made = [_entry(row, plan.study.axes, executed) for row in plan.rows]
    wanted: dict[str, Benchmark] = {}
    for cell in plan.study.cells:
        for benchmark in cell.recipe.evaluation.benchmarks if cell.recipe.evaluation else []:
            wanted.setdefault(benchmark.name, benchmark)
    for benchmark in wanted.values():
        if published := benchmark.published():
            made += published_rows(benchmark, published, made)
    return made


PUBLISHED = "public"
"""The method of a row that a public leaderboard has."""


def published_rows(benchmark: Benchmark, published: Published, entries: Sequence[Entry]) -> list[Entry]:
    """A public leaderboard's rows: in the table of entries that the same judge gave verdicts on for the same prompts;
    where there are none, in a table of their own."""
    provenance = dict(published.provenance)
    for entry in entries:
        judge, identity = entry.provenance.judge or {}, entry.provenance.benchmark(benchmark.name)
        if judge.get("recorded_by") == published.judge and published.comparable(identity):
            provenance |= {"judge": judge, "benchmarks": entry.provenance.benchmarks}
            break
    return [
        Entry(id=name, method=PUBLISHED, metrics=metrics, provenance=provenance, figures=benchmark.figures)
        for name, metrics in published.rows.items()
    ]


def recorded_by(plan: Plan, row: PlannedRow, executed: ExecutionResult) -> str:
    """Who gave a row's recorded verdicts: `alpaca_eval: NAME; mt_bench: NAME`. For a benchmark that this row has none
    of, who gave the other rows': rows of one judge stand in one table, whatever each was judged on."""
    found: dict[str, set[str]] = {}
    for other in plan.rows:
        for name, stage in other.verdicts.items():
            found.setdefault(name, set()).add(executed.artifacts[stage.key].report["recorded_by"])
    own = {name: executed.artifacts[stage.key].report["recorded_by"] for name, stage in row.verdicts.items()}
    known = {name: next(iter(judges)) for name, judges in found.items() if len(judges) == 1} | own
    return "; ".join(f"{name}: {judge}" for name, judge in sorted(known.items()))


def _entry(made: StudyRow, axes: Sequence[Axis], executed: ExecutionResult) -> Entry:
    recipe, plan, row = made.cell.recipe, made.plan, made.row
    provenance = _provenance(recipe, plan, row, executed)
    if axes:
        provenance["sweep"] = {
            "row": made.own_id,
            "cells": [cell.settings for cell in made.cells],
            "axes": [{"name": a.name, "fields": a.fields, "values": [label for label, _ in a.choices]} for a in axes],
        }
    figures: dict[str, Metric] = {}
    details: dict[str, dict[str, float | None]] = {}
    drawn: dict[str, list[float]] = {}
    if row.heldout:
        heldout = executed.artifacts[row.heldout.key]
        figures |= metrics(heldout)
        details["heldout"] = outcomes(heldout, "heldout")
    declared: list[Figure] = []
    for benchmark in recipe.evaluation.benchmarks if recipe.evaluation else []:
        if benchmark.name in row.verdicts:
            declared += benchmark.figures_of(identity(benchmark))
    for name, stage in row.verdicts.items():
        artifact = executed.artifacts[stage.key]
        figures |= metrics(artifact)
        details[name] = outcomes(artifact, "verdicts")
        drawn |= resamples(artifact)
    return Entry(
        id=row.id,
        method=row.method,
        metrics=figures,
        provenance=provenance,
        outcomes=details,
        resamples=drawn,
        figures=tuple(declared),
    )


def _flags(
    recipe: Recipe, row: PlannedRow, executed: ExecutionResult, provenance: Mapping[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """The validity guards that fire, by benchmark; those of the row as a whole under `row`."""
    assert recipe.evaluation
    found: dict[str, list[Flag]] = {}
    for benchmark in recipe.evaluation.benchmarks:
        name = identity(benchmark)["name"]
        if name in row.answers:
            answers = executed.artifacts[row.answers[name].key].rows("answers.jsonl", Answer)
            found[name] = answer_flags(answers, _reference_texts(benchmark, row.verdicts[name], executed))
    whole = [leak_flag(provenance["leaks"], provenance["data"])]
    if "policy" in provenance:
        judges = [identity(recipe.evaluation.judge_of(benchmark)) for benchmark in recipe.evaluation.benchmarks]
        whole += {flag.text: flag for j in judges if (flag := family_flag(j, provenance["policy"]))}.values()
    found["row"] = [flag for flag in whole if flag is not None]
    return {name: [flag.model_dump(mode="json") for flag in flags] for name, flags in found.items() if flags}


def _reference_texts(benchmark: Benchmark, verdicts: Stage, executed: ExecutionResult) -> dict[str, str]:
    reference = verdicts.inputs.get("reference")
    given = executed.artifacts[reference.key].rows("answers.jsonl", Answer) if reference else []
    return benchmark.reference_texts(given)


def _curve(trained: Artifact) -> list[list[float]]:
    """[step, loss] of about CURVE steps of a training, evenly spaced, the last one among them."""
    steps = [[s["step"], s["loss"]] for s in read_steps(trained.folder / "steps.jsonl") if s.get("loss") is not None]
    every = max(1, -(-len(steps) // CURVE))
    return [[step, round(loss, 6)] for step, loss in (steps[::-1][::every])[::-1]]


def _calibration(evaluation: Evaluation) -> str:
    """What ties the judge to an official one, in a line, by the first benchmark that knows one."""
    for benchmark in evaluation.benchmarks:
        if annotator := benchmark.calibrated_by:
            known = calibration_of(identity(evaluation.judge_of(benchmark)), annotator)
            return known.text if known else "uncalibrated"
    return "uncalibrated"


def _references(plan: Plan, row: PlannedRow) -> dict[str, str]:
    """Keys of the answers that a row's were compared with, where they are another row's."""
    found = {name: stage.inputs.get("reference") for name, stage in row.verdicts.items()}
    return {name: stage.key for name, stage in found.items() if stage is not None}


def _provenance(recipe: Recipe, plan: Plan, row: PlannedRow, executed: ExecutionResult) -> dict[str, Any]:
    """Everything that a row's figures rest on. Times are left out: the same run must give the same board."""
    stages = {
        name: s
        for name, s in plan.data.items()
        if not name.startswith(("reference/", "sft/")) and name not in ("report", "dataset")
    }
    if row.heldout:
        stages["reference"] = row.heldout.inputs["reference"]
    last = executed.artifacts[row.stages[-1].key] if row.heldout is None else executed.artifacts[row.heldout.key]
    found: dict[str, Any] = {
        "recipe": recipe_dict(recipe),
        "seed": recipe.seed,
        **({"policy": policy_identity(recipe.policy)} if recipe.policy and row.system is None else {}),
        "data": {name: executed.artifacts[stage.key].report for name, stage in stages.items()},
        "keys": {stage.id: stage.key for stage in (*stages.values(), *([row.sft] if row.sft else []), *row.stages)},
        "answers": {name: executed.artifacts[stage.key].report for name, stage in row.answers.items()},
        # Those of the process that computed the row, not of the one that draws the board.
        "made_by": last.record.made_by,
    }
    found["leaks"] = {name: report["leaks"] for name, report in found["data"].items() if report.get("leaks")}
    if recipe.evaluation:
        found["judge"] = identity(recipe.evaluation.judge)
        found["judge_calibration"] = _calibration(recipe.evaluation)
        if is_replay(recipe):
            found["verdicts"] = {name: executed.artifacts[stage.key].report for name, stage in row.verdicts.items()}
            found["judge"]["recorded_by"] = recorded_by(plan, row, executed)
            found["judge_calibration"] = RECORDED
        else:
            reports = {name: executed.artifacts[stage.key].report for name, stage in row.verdicts.items()}
            found["judging"] = {name: board_ledger(report) for name, report in reports.items()}
        if references := _references(plan, row):
            found["references"] = references
        if flags := _flags(recipe, row, executed, found):
            found["guards"] = flags
        found["benchmarks"] = {identity(b)["name"]: identity(b) for b in recipe.evaluation.benchmarks}
        for name, own in recipe.evaluation.judges.items():
            found["benchmarks"][name]["judge"] = identity(own)
    if row.arm and row.arm.seed is not None:
        found["method_id"] = row.arm.method.id
        found["training_seed"] = row.arm.seed
    if row.matched:
        found["match_to"] = row.matched.id
    if row.policy is not None:
        trained = executed.artifacts[row.policy.key]
        found["training"] = {k: v for k, v in trained.report.items() if k != "seconds"}
        found["training"]["curve"] = _curve(trained)
    if row.start and row.sft:
        report = {k: v for k, v in executed.artifacts[row.sft.key].report.items() if k != "seconds"}
        found["sft"] = {"row": row.start, **report}
    if row.arm and isinstance(row.arm.method.loss, Loss):
        loss = row.arm.method.loss
        facts = LossFacts(on_pairs=loss.on_pairs, is_multi_dpo=loss.is_multi_dpo, reconstruction=loss.reconstruction)
        found["loss"] = facts.plain()
    return found
