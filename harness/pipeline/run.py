"""A whole run, from a study to its board, reusing what the store already has."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from harness.boards.board import Board
from harness.engine.execute import ExecutionResult, Overview, execute
from harness.engine.provenance import packages_out_of_range
from harness.engine.resources import Resources
from harness.engine.runs import note_names, running
from harness.engine.store import Store
from harness.judging.costs import judging_summary, start_spending
from harness.pipeline.board import check_folder, check_plan, write_run
from harness.pipeline.live.time_left import View, expected_times
from harness.pipeline.live.trackers import TrackedPlan
from harness.pipeline.run_log import logging_to
from harness.pipeline.study import StudyPlan, make_study_plan
from harness.recipe.load import Study
from harness.servers.spending import Spending
from harness.trackers.tracked import about_nodes
from harness.training.checkpoint import starting_policy
from harness.types import RankedExample

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A trained policy on disk. `path`: its folder, which transformers loads if it is a whole model, and peft on `base`
    if it is a LoRA `adapter`. `base`: the model that training started from, as the recipe names it; after
    supervised fine-tuning, the folder of that checkpoint."""

    path: Path
    adapter: bool
    base: str


@dataclass(frozen=True)
class Dataset:
    """A ranked dataset on disk. `path`: the training examples, JSONL; `card`: its README.md."""

    path: Path
    card: Path

    def examples(self) -> list[RankedExample]:
        """The training examples: prompts with their responses, best first."""
        return _examples(self.path)

    def heldout(self) -> list[RankedExample]:
        """The held-out examples, which no stage trains on."""
        return _examples(self.path.with_name("heldout.jsonl"))


def _examples(path: Path) -> list[RankedExample]:
    # Not splitlines(), which also splits at U+2028 and similar characters inside JSON strings.
    return [RankedExample.model_validate_json(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@dataclass(frozen=True)
class CompletedRun:
    """The results of a run. `folder`: the board's. `board`: None without rows in the plan. `kept`: where the board that
    this one has replaced is kept; None where there was none, or the same."""

    plan: StudyPlan
    executed: ExecutionResult
    spending: Spending
    folder: Path
    board: Board | None
    kept: Path | None = None

    @property
    def reused(self) -> int:
        """The number of stages that were not run because the store had them."""
        return len(self.plan.stages) - self.executed.ran

    @property
    def judging(self) -> str | None:
        """The cost of judging, in one line; None if nothing was judged."""
        judged = [stage for m in self.plan.rows for stage in (*m.row.verdicts.values(), *m.row.gold.values())]
        keys = dict.fromkeys(stage.key for stage in judged)
        return judging_summary([self.executed.artifacts[key].report for key in keys], self.spending)

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """The trained policies by row id, in the board's order."""
        checkpoints: dict[str, Checkpoint] = {}
        for member in self.plan.rows:
            row, recipe = member.row, member.cell.recipe
            if row.policy is None or recipe.policy is None:
                continue
            training = row.arm.training if row.arm else recipe.training
            path = row.checkpoint(self.executed.artifacts[row.policy.key].folder)
            base = starting_policy(recipe.policy, training, self.executed.artifacts[row.sft.key] if row.sft else None)
            checkpoints[row.id] = Checkpoint(path, (path / "adapter_config.json").exists(), base.model)
        return checkpoints

    @property
    def datasets(self) -> dict[str, Dataset]:
        """The ranked datasets by cell id, which is empty without a sweep."""
        datasets: dict[str, Dataset] = {}
        for cell, plan in zip(self.plan.study.cells, self.plan.plans, strict=True):
            if stage := plan.data.get("dataset"):
                folder = self.executed.artifacts[stage.key].folder
                datasets[cell.id] = Dataset(folder / "ranked.jsonl", folder / "README.md")
        return datasets


def run_study(
    study: Study,
    boards: Path,
    store_folder: Path,
    view: AbstractContextManager[View],
    *,
    max_cost: float | None = None,
    ray: str | None = None,
    replace: bool = False,
) -> CompletedRun:
    """Run the stages that the store doesn't have, in this process or on the Ray cluster at `ray`, and write the study's
    board to a folder in `boards`. `view` is open while stages run. `max_cost`: the limit on judging costs, in dollars.
    `replace`: also replace another recipe's board, or one with far more scored prompts.

    Raises HarnessError, and OSError if something can't be written. Finished stages stay in the store."""
    for line in packages_out_of_range():  # before the run's log takes what the terminal would show
        _log.warning("%s", line)
    spending = start_spending([cell.recipe for cell in study.cells], max_cost)
    folder = boards / study.name
    check_folder(folder, study, replace)
    with logging_to(folder / "run.log"):
        for reason in sorted({cell.auto_dtype for cell in study.cells} - {""}):
            _log.info("%s", reason)
        _prepare(study)
        plan = make_study_plan(study)
        if plan.rows and not replace:
            check_plan(folder, plan)
        store = Store(store_folder)
        with running(store, (stage.key for stage in plan.stages)), view as overview:
            note_names(store, study.name, {stage.key: stage.id for stage in plan.stages})
            overview.expect(lambda: expected_times(plan, store))
            tracked = TrackedPlan(plan, store.logs)
            executed = _execute(tracked, store, overview, spending, ray)
            board, kept = write_run(folder, plan, executed, replace) if plan.rows else (None, None)
            tracked.summarise(executed, board)
        if kept:
            _log.info("the board that was here is kept in %s", kept)
    return CompletedRun(plan, executed, spending, folder, board, kept)


def _prepare(study: Study) -> None:
    """Download the files that benchmarks need now rather than after hours of training."""
    for cell in study.cells:
        for benchmark in cell.recipe.evaluation.benchmarks if cell.recipe.evaluation else []:
            benchmark.prepare()


def _execute(
    tracked: TrackedPlan, store: Store, overview: Overview, spending: Spending, ray: str | None
) -> ExecutionResult:
    resources: Mapping[str, Resources] = tracked.plan.study.cells[0].recipe.runtime.resources
    if ray is None:
        return execute(tracked, store, overview, spending, resources)
    from harness.engine.cluster.execute import execute_on_ray

    trackers = {name for run in tracked.runs.values() for name in run.trackers}
    if ray != "local" and (line := about_nodes(trackers)):
        _log.warning("%s", line)
    return execute_on_ray(tracked, store, overview, spending, ray, resources)
