"""Derives a plan from a recipe: all stages with their keys, without running anything."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.engine.stage import Stage
from harness.errors import RecipeError
from harness.pipeline.planning.data import data_stages
from harness.pipeline.planning.evaluation import evaluated_rows, with_gold, with_kl, with_rewards
from harness.pipeline.planning.rounds import RoundData
from harness.pipeline.planning.row import PlannedRow
from harness.pipeline.planning.trainings import Trainings
from harness.recipe.arms import arms_of, method_problems
from harness.recipe.data import Data
from harness.recipe.policy import Policy
from harness.recipe.reading.plain_yaml import shown_path
from harness.recipe.recipe import BASE, Recipe
from harness.recipe.sizes import Sizes
from harness.recipe.systems import SYSTEM, system_problems
from harness.training.checkpoint import deployed_adapter
from harness.training.setup import TrainingSetup


@dataclass(frozen=True)
class Plan:
    """`data`: the stages of the data, and those that several rows share, by name. `rows`: the board's rows."""

    data: Mapping[str, Stage]
    rows: tuple[PlannedRow, ...]

    @property
    def stages(self) -> list[Stage]:
        """All stages, in an order in which they can run: data, training, the answers of all rows, then the verdicts, so
        that a local judge is loaded last."""
        stages = [
            *self.data.values(),
            *(stage for row in self.rows if row.policy for stage in _inputs_first(row.policy)),
            *(row.heldout for row in self.rows if row.heldout),
            *(stage for row in self.rows for stage in row.answers.values()),
            *(row.kl for row in self.rows if row.kl),
            *(stage for row in self.rows for stage in row.verdicts.values()),
            *(stage for row in self.rows for stage in row.gold.values()),
            *(row.rewards for row in self.rows if row.rewards),
        ]
        return list({stage.key: stage for stage in stages}.values())


def _inputs_first(policy: Stage) -> list[Stage]:
    """A training, preceded by what it depends on: of a later round, its data and the round before; and the training
    whose budget it gets."""
    found: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        if stage.key not in found:
            for needed in stage.inputs.values():
                add(needed)
            found[stage.key] = stage

    add(policy)
    return list(found.values())


def _round_data(recipe: Recipe, policy: Policy, data: Data, stages: Mapping[str, Stage]) -> RoundData | None:
    if recipe.rounds is None:
        return None
    adapters = [deployed_adapter(arm.training) for arm in arms_of(recipe) if arm.training.sft is None]
    rank = max((adapter.r for adapter in adapters if adapter), default=None)
    return RoundData(recipe.rounds, recipe, data, policy, stages, rank)


def make_plan(recipe: Recipe) -> Plan:
    """The plan of a recipe. Raises RecipeError for methods or systems that contradict each other."""
    if problems := [*method_problems(recipe), *system_problems(recipe)]:
        raise RecipeError(f"{shown_path(problems[0].path)}: {problems[0].message}")
    data: dict[str, Stage] = {}
    rows: list[PlannedRow] = []
    if recipe.policy and recipe.data:
        sizes = Sizes(recipe.data)
        data = data_stages(recipe, recipe.policy, recipe.data, sizes)
        if recipe.methods:
            setup = TrainingSetup(recipe.name, recipe.policy, recipe.runtime, recipe.seed, sizes)
            checkpoints = recipe.evaluation.checkpoints if recipe.evaluation else None
            rounds = _round_data(recipe, recipe.policy, recipe.data, data)
            trainings = Trainings(setup, data["ranked"], data.get("pairs"), checkpoints, rounds)
            rows = trainings.rows(recipe)
            data |= trainings.shared
    if recipe.evaluation:
        if recipe.policy and not rows:
            rows = [PlannedRow(BASE, BASE)]
        rows += [PlannedRow(system.id, SYSTEM, system=system) for system in recipe.systems]
        concurrency = recipe.runtime.judge_concurrency
        rows = evaluated_rows(rows, recipe.evaluation, recipe.policy, recipe.seed, concurrency)
        if recipe.evaluation.gold and (judge := recipe.evaluation.gold.judge):
            rows = with_gold(rows, recipe.evaluation, judge, recipe.seed, concurrency)
        rows = with_kl(with_rewards(rows, recipe, data), recipe)
    return Plan(data, tuple(rows))
