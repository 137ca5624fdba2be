"""A plan's trainings as runs of experiment trackers, and the board's figures as what these runs end with."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.boards.board import Board
from harness.engine.execute import ExecutionResult
from harness.engine.stage import Body, Context, Stage
from harness.engine.store import Artifact
from harness.pipeline.study import StudyPlan, StudyRow
from harness.recipe.arms import Arm
from harness.recipe.recipe import Recipe
from harness.recipe.sizes import Sizes
from harness.recipe.trl_loss import TrlLoss
from harness.trackers.curves import summarise, try_again
from harness.trackers.tracked import TrackedRun, tracking
from harness.training.steps import read_steps
from harness.types import Metric

_log = logging.getLogger(__name__)

TRAININGS = frozenset({"train", "sft", "reward"})
"""The names of stages that train something."""


class TrackedPlan:
    """A plan whose trainings are tracked, by the trackers in `runtime.report_to`."""

    def __init__(self, plan: StudyPlan, logs: Path) -> None:
        try_again()
        self.plan = plan
        self.runs = {run.key: run for run in _runs(plan, logs)}
        self.stages = [_tracked(stage, self.runs.get(stage.key)) for stage in plan.stages]

    def summarise(self, executed: ExecutionResult, board: Board | None) -> None:
        """Add the board's figures and what was trained to the runs, also of trainings that the store had."""
        entries = {entry.id: entry.metrics for entry in board.entries} if board else {}
        for key, run in self.runs.items():
            artifact = executed.artifacts[key]
            figures = {**_figures(entries.get(run.row, {})), **_report(artifact)}
            if run.kind == "reward" and not artifact.report["training"]:
                continue  # a reward model that is not trained
            from harness.training.ranked.metrics import flatten

            summarise(run, figures, [flatten(step) for step in read_steps(artifact.folder / "steps.jsonl")])


def _tracked(stage: Stage, run: TrackedRun | None) -> Stage:
    """The stage, whose trainings are that run. Its key is the same."""
    return stage if run is None else replace(stage, body=_within(run, stage.body))


def _within(run: TrackedRun, body: Body) -> Body:
    def tracked(ctx: Context) -> dict[str, Any]:
        with tracking(run):
            return body(ctx)

    return tracked


def _runs(plan: StudyPlan, logs: Path) -> Iterator[TrackedRun]:
    rows: dict[str, StudyRow] = {}
    for member in plan.rows:
        if member.row.policy:
            rows.setdefault(member.row.policy.key, member)
    for stage in plan.stages:
        recipe = plan.study.cells[plan.needed_by[stage.key][0]].recipe
        if stage.name not in TRAININGS or not recipe.runtime.report_to:
            continue
        trained = rows.get(stage.key)
        yield TrackedRun(
            trackers=recipe.runtime.report_to,
            key=stage.key,
            group=plan.study.name,
            row=trained.row.id if trained else stage.id,
            kind=stage.name,
            tags=tuple(dict.fromkeys(_tags(stage, recipe, trained.row.arm if trained else None))),
            config=_config(plan, stage, trained),
            logs=logs,
        )


def _tags(stage: Stage, recipe: Recipe, arm: Arm | None) -> Iterator[str]:
    if arm:
        yield arm.method.id
        yield "+".join(arm.method.loss.name) if isinstance(arm.method.loss, TrlLoss) else arm.method.loss.name
    elif stage.name == "reward":
        yield str(stage.params["reward"]["name"])
    if recipe.data and stage.name == "train":
        yield f"N={Sizes(recipe.data).responses_a_prompt}"


def _config(plan: StudyPlan, stage: Stage, member: StudyRow | None) -> dict[str, Any]:
    """What the training depends on: its own parameters, and those of the stages below it."""
    below = {needed.id: _readable(needed.params) for needed in _below(stage)}
    facts: dict[str, Any] = {"recipe": plan.study.name, "stage": stage.id, "key": stage.key}
    if member:
        facts |= {"row": member.row.id, "method": member.row.method}
        facts |= {"training_seed": member.row.arm.seed} if member.row.arm and member.row.arm.seed is not None else {}
        facts |= {"cell": dict(member.cell.settings)} if plan.study.axes else {}
    return {**facts, **_readable(stage.params), "inputs": below}


def _below(stage: Stage) -> Iterable[Stage]:
    """All stages that a stage depends on, each once."""
    found: dict[str, Stage] = {}
    waiting = list(stage.inputs.values())
    while waiting:
        needed = waiting.pop()
        if needed.key not in found:
            found[needed.key] = needed
            waiting += needed.inputs.values()
    return found.values()


def _readable(value: Any) -> Any:
    """A parameter without hashes, which the key stands for."""
    if isinstance(value, Mapping):
        return {k: _readable(v) for k, v in value.items() if not re.fullmatch(r"[0-9a-f]{64}", str(v))}
    return [_readable(part) for part in value] if isinstance(value, list | tuple) else value


def _figures(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """A row's figures with their 95 % CIs and n. A figure that was not scored is not there."""
    figures: dict[str, float] = {}
    for name, metric in metrics.items():
        if metric.value is not None:
            figures |= {f"board/{name}": metric.value, f"board/{name}.n": metric.n}
            if metric.ci95:
                figures |= {f"board/{name}.ci95_low": metric.ci95[0], f"board/{name}.ci95_high": metric.ci95[1]}
    return figures


def _report(artifact: Artifact) -> dict[str, float]:
    """What went into the training, and of a reward model its accuracy on held-out pairs."""
    report = artifact.report
    counts = {name: report[name] for name in ("steps", "tokens", "forward_tokens", "prompts_seen") if name in report}
    figures: dict[str, float] = {f"training/{name}": value for name, value in counts.items()}
    figures["training/seconds"] = report.get("seconds", artifact.record.seconds)
    if "heldout_accuracy" in report:
        figures |= _figures({"reward.heldout_accuracy": Metric.model_validate(report["heldout_accuracy"])})
    return figures
