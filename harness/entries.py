"""Board rows from a run's artifacts."""

from typing import Any

from harness.components import identity
from harness.evaluate import metrics, outcomes
from harness.execute import Executed
from harness.judge_costs import lasting
from harness.leaderboard import Entry
from harness.plan import Plan, Row
from harness.recipe import Recipe
from harness.recipe_file import recipe_dict
from harness.train import policy_identity
from harness.types import Metric

RECONSTRUCTION = "mdpo_linear is a reconstruction of Multi-DPO (arXiv 2412.07812): the paper's exact loss is not public"


def make_entries(recipe: Recipe, plan: Plan, executed: Executed) -> list[Entry]:
    """One entry a row, the untrained base first, then the methods in the recipe's order."""
    return [_entry(recipe, plan, row, executed) for row in plan.rows]


def _entry(recipe: Recipe, plan: Plan, row: Row, executed: Executed) -> Entry:
    figures: dict[str, Metric] = {}
    details: dict[str, dict[str, float | None]] = {}
    if row.heldout:
        heldout = executed.artifacts[row.heldout.key]
        figures |= metrics(heldout)
        details["heldout"] = outcomes(heldout, "heldout")
    for name, stage in row.verdicts.items():
        artifact = executed.artifacts[stage.key]
        figures |= metrics(artifact)
        details[name] = outcomes(artifact, "verdicts")
    return Entry(
        id=row.id,
        method=row.method,
        metrics=figures,
        provenance=_provenance(recipe, plan, row, executed),
        outcomes=details,
    )


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
        "policy": policy_identity(recipe),
        "data": {name: executed.artifacts[stage.key].report for name, stage in stages.items()},
        "keys": {stage.id: stage.key for stage in (*stages.values(), *([row.sft] if row.sft else []), *row.stages)},
        "answers": {name: executed.artifacts[stage.key].report for name, stage in row.answers.items()},
        # Those of the process that computed the row, not of the one that draws the board.
        "made_by": last.record.made_by,
    }
    found["leaks"] = {name: report["leaks"] for name, report in found["data"].items() if report.get("leaks")}
    if recipe.evaluation:
        found["judge"] = identity(recipe.evaluation.judge)
        found["judge_calibration"] = "uncalibrated"
        ledgers = {name: lasting(executed.artifacts[stage.key].report) for name, stage in row.verdicts.items()}
        found["judging"] = {name: ledger for name, ledger in ledgers.items() if ledger}
        found["benchmarks"] = {identity(b)["name"]: identity(b) for b in recipe.evaluation.benchmarks}
    if row.arm and row.arm.seed is not None:
        found["method_id"] = row.arm.method.id
        found["training_seed"] = row.arm.seed
    if row.matched:
        found["match_to"] = row.matched.id
    if row.policy is not None:
        found["training"] = {k: v for k, v in executed.artifacts[row.policy.key].report.items() if k != "seconds"}
    if row.start and row.sft:
        report = {k: v for k, v in executed.artifacts[row.sft.key].report.items() if k != "seconds"}
        found["sft"] = {"row": row.start.id, **report}
    if row.method == "mdpo_linear":
        found["reconstruction"] = RECONSTRUCTION
    return found
