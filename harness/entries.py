"""Board rows from a run's artifacts."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.calibration import calibration_of
from harness.components import identity
from harness.evaluate import metrics, outcomes, resamples
from harness.execute import Executed
from harness.guards import Flag, answer_flags, family_flag, leak_flag
from harness.judge_costs import lasting
from harness.leaderboard import Entry
from harness.length_control import OFFICIAL_GLM
from harness.plan import Plan, Row
from harness.protocols import Benchmark
from harness.public_leaderboard import JUDGE
from harness.public_rows import public_rows
from harness.recipe import Evaluation, Recipe
from harness.recipe_file import recipe_dict
from harness.recipe_sweep import Axis
from harness.stages import Stage
from harness.store import Artifact
from harness.sweep import StudyPlan, StudyRow
from harness.systems import is_replay
from harness.train import policy_identity
from harness.training.steps import read_steps
from harness.types import Answer, Metric

RECORDED = "recorded verdicts, not judged again"
CURVE = 100
RECONSTRUCTION = "mdpo_linear is a reconstruction of Multi-DPO (arXiv 2412.07812): the paper's exact loss is not public"


def make_entries(plan: StudyPlan, executed: Executed) -> list[Entry]:
    """One entry a row, the untrained base first, then the methods in the recipe's order; of a sweep, cell by cell."""
    made = [_entry(row, plan.study.axes, executed) for row in plan.rows]
    wanted: dict[str, Any] = {}
    for cell in plan.study.cells:
        for benchmark in cell.recipe.evaluation.benchmarks if cell.recipe.evaluation else []:
            wanted.setdefault(identity(benchmark)["name"], getattr(benchmark, "public_rows", ()))
    for name, public in wanted.items():
        made += public_rows(public, _same_judge(made, name))
    return made


def _same_judge(entries: Sequence[Entry], name: str) -> dict[str, Any] | None:
    """What the public rows may stand in one table with: rows of the same judge on the same prompts and files."""
    for entry in entries:
        judge, benchmark = entry.section("judge"), entry.section("benchmarks").get(name, {})
        official = benchmark.get("lc_glm") == OFFICIAL_GLM and "lc_unofficial" not in benchmark
        if judge.get("recorded_by") == f"alpaca_eval: {JUDGE}" and official:
            return {"judge": dict(judge), "benchmarks": dict(entry.section("benchmarks"))}
    return None


def recorded_by(plan: Plan, row: Row, executed: Executed) -> str:
    """Who gave a row's recorded verdicts: `alpaca_eval: NAME; mt_bench: NAME`. For a benchmark that this row has none
    of, who gave the other rows': rows of one judge stand in one table, whatever each was judged on."""
    found: dict[str, set[str]] = {}
    for other in plan.rows:
        for name, stage in other.verdicts.items():
            found.setdefault(name, set()).add(executed.artifacts[stage.key].report["recorded_by"])
    own = {name: executed.artifacts[stage.key].report["recorded_by"] for name, stage in row.verdicts.items()}
    known = {name: next(iter(judges)) for name, judges in found.items() if len(judges) == 1} | own
    return "; ".join(f"{name}: {judge}" for name, judge in sorted(known.items()))


def _entry(made: StudyRow, axes: Sequence[Axis], executed: Executed) -> Entry:
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
    )


def _flags(
    recipe: Recipe, row: Row, executed: Executed, provenance: Mapping[str, Any]
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


def _reference_texts(benchmark: Benchmark, verdicts: Stage, executed: Executed) -> dict[str, str]:
    reference = verdicts.inputs.get("reference")
    given = executed.artifacts[reference.key].rows("answers.jsonl", Answer) if reference else []
    return getattr(benchmark, "reference_texts", lambda rows: {})(given)


def _curve(trained: Artifact) -> list[list[float]]:
    """[step, loss] of about CURVE steps of a training, evenly spaced, the last one among them."""
    steps = [[s["step"], s["loss"]] for s in read_steps(trained.folder / "steps.jsonl") if s.get("loss") is not None]
    every = max(1, -(-len(steps) // CURVE))
    return [[step, round(loss, 6)] for step, loss in (steps[::-1][::every])[::-1]]


def _calibration(evaluation: Evaluation) -> str:
    """What ties the judge of AlpacaEval to the official one, in a line; of ratings there is no calibration."""
    for benchmark in evaluation.benchmarks:
        if annotator := getattr(benchmark, "annotator", None):
            known = calibration_of(identity(evaluation.judge_of(benchmark)), annotator)
            return known.text if known else "uncalibrated"
    return "uncalibrated"


def _references(plan: Plan, row: Row) -> dict[str, str]:
    """Keys of the answers that a row's were compared with, where they are another row's."""
    found = {name: stage.inputs.get("reference") for name, stage in row.verdicts.items()}
    return {name: stage.key for name, stage in found.items() if stage is not None}


def _provenance(recipe: Recipe, plan: Plan, row: Row, executed: Executed) -> dict[str, Any]:
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
        **({"policy": policy_identity(recipe)} if row.system is None else {}),
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
            found["judging"] = {name: lasting(report) for name, report in reports.items()}
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
        found["sft"] = {"row": row.start.id, **report}
    if row.method == "mdpo_linear":
        found["reconstruction"] = RECONSTRUCTION
    return found
