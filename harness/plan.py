"""A recipe becomes a plan: all stages with their keys, derived without running anything."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from harness.agreement import comparison_stages
from harness.arms import Arm, arms_of, matched
from harness.arms import problems as arm_problems
from harness.augment import prompts_stage, seeds_stage
from harness.dataset import dataset_stage, report_stage
from harness.errors import RecipeError
from harness.evaluate import BASE, answers_stage, heldout_stage, verdicts_stage
from harness.plain_yaml import shown_path
from harness.protocols import Benchmark
from harness.rank import own_pairs_stage, ranked_stage, reward_stage
from harness.recipe import Evaluation, Recipe, System, Training
from harness.recorded import recorded_answers_stage, recorded_verdicts_stage
from harness.reference import reference_stage
from harness.responses import responses_stage
from harness.stages import Stage
from harness.systems import SYSTEM, is_replay
from harness.systems import problems as system_problems
from harness.train import scoring_bits, sft_stage
from harness.train_methods import Sources, policy_stage

SFT = "sft"
"""The method of a row that is a policy after supervised fine-tuning and before any preference training."""


class Row(NamedTuple):
    """A row of the board, and the stages that it is made from; `policy` and `arm` are None for the untrained base, and
    `heldout` where no method is trained. `bits`: of the quantised base that its adapter is for. `start`: the fine-tuned
    policy's row that its training starts from, None for the untrained policy. `matched`: the training whose budget it
    was given. `system`: what a row from files is made from."""

    id: str
    method: str
    policy: Stage | None
    bits: Literal[4, 8] | None
    heldout: Stage | None
    answers: dict[str, Stage]
    verdicts: dict[str, Stage]
    start: "Row | None" = None
    arm: Arm | None = None
    matched: Arm | None = None
    system: System | None = None

    @property
    def sft(self) -> Stage | None:
        """The stage of the fine-tuned policy that this row's training starts from."""
        return self.start.policy if self.start else None

    @property
    def stages(self) -> list[Stage]:
        """This row's own stages."""
        trained = [stage for stage in (self.policy, self.heldout) if stage]
        return [*trained, *self.answers.values(), *self.verdicts.values()]


@dataclass(frozen=True)
class Plan:
    """The data's stages by name, and the rows. `stages` lists all in an order in which they can run."""

    data: dict[str, Stage]
    rows: list[Row]

    @property
    def stages(self) -> list[Stage]:
        """Data, then training, then answers of all rows, then verdicts: a judge in process is loaded last."""
        wanted = [
            *self.data.values(),
            *(s for r in self.rows if r.policy for s in _matched_first(r.policy)),
            *(r.heldout for r in self.rows if r.heldout),
            *(s for r in self.rows for s in r.answers.values()),
            *(s for r in self.rows for s in r.verdicts.values()),
        ]
        return list({stage.key: stage for stage in wanted}.values())


def _matched_first(policy: Stage) -> list[Stage]:
    """A training after the one whose budget it is given."""
    return [*(_matched_first(policy.inputs["match"]) if "match" in policy.inputs else []), policy]


def make_plan(recipe: Recipe) -> Plan:
    """The plan of a recipe. Raises RecipeError for methods that don't go together."""
    if wrong := [*arm_problems(recipe), *system_problems(recipe)]:
        raise RecipeError(f"{shown_path(wrong[0].path)}: {wrong[0].message}")
    data = _data(recipe) if recipe.given_data else {}
    rows = _trained_rows(recipe, data) if recipe.methods else []
    if recipe.evaluation:
        if recipe.given_policy:
            rows = rows or [_untrained(BASE, BASE)]
        rows += [_untrained(s.id, SYSTEM)._replace(system=s) for s in recipe.systems]
        for benchmark in recipe.evaluation.benchmarks:
            _evaluate(recipe, recipe.evaluation, benchmark, rows)
    return Plan(data, rows)


def _untrained(row: str, method: str) -> Row:
    return Row(row, method, None, None, None, {}, {})


def _trained_rows(recipe: Recipe, data: dict[str, Stage]) -> list[Row]:
    """The untrained base, then what was fine-tuned only, then a row a training. Adds their shared stages to `data`."""
    ranked = data["ranked"]

    def reference(training: Training, sft: Stage | None = None) -> Stage:
        # Methods that cut at the same lengths get equal stages, with one key.
        stage = reference_stage(recipe, ranked, training, sft)
        return data.setdefault(f"reference/{stage.key}", stage)

    tuned: dict[str, Row] = {}

    def fine_tuned(training: Training) -> Row | None:
        # Methods with equal settings start from one model, and its row says what that step alone has brought.
        if training.sft is None:
            return None
        row = f"{SFT}-{len(tuned) + 1}" if tuned else SFT
        stage = sft_stage(recipe, row, training, training.sft, ranked)
        if stage.key not in tuned:
            data[f"{SFT}/{stage.key}"] = stage
            tuned[stage.key] = _row(recipe, row, SFT, training, ranked, reference(training), stage)
        return tuned[stage.key]

    first = reference(recipe.training)
    rows = [_row(recipe, BASE, BASE, recipe.training, ranked, first, None)]
    arms = arms_of(recipe)
    policies: dict[str, Stage] = {}

    def policy(arm: Arm) -> Stage:
        if arm.id not in policies:
            other = matched(recipe, arm, arms)
            start = fine_tuned(arm.training)
            sft = start.policy if start else None
            own = reference(arm.training, sft)
            policies[arm.id] = policy_stage(recipe, arm, Sources(ranked, own, sft, policy(other) if other else None))
        return policies[arm.id]

    for arm in arms:
        start = fine_tuned(arm.training)
        own = reference(arm.training, start.policy if start else None)
        made = _row(recipe, arm.id, arm.method.label, arm.training, ranked, own, policy(arm), start)
        rows.append(made._replace(arm=arm, matched=matched(recipe, arm, arms)))
    rows[1:1] = tuned.values()
    return rows


def _data(recipe: Recipe) -> dict[str, Stage]:
    """The stages up to the ranked dataset, by name."""
    seeds = seeds_stage(recipe)
    data = {"seeds": seeds}
    responses, reward = recipe.data.responses, recipe.data.reward
    if responses is None or reward is None:  # the recipe has both or neither
        return _described(recipe, data | {"ranked": own_pairs_stage(seeds)})
    if recipe.data.prompts:
        data["prompts"] = prompts_stage(recipe, seeds, recipe.data.prompts)
    data["responses"] = responses_stage(recipe, seeds, data.get("prompts"), responses)
    ready = reward_stage(recipe, seeds, reward)
    data |= {name: stage for name, stage in ready.inputs.items() if name != "seeds"}  # what it is made from, first
    data["reward"] = ready
    data["ranked"] = ranked_stage(recipe, reward, data["responses"], data["reward"])
    return _described(recipe, data | comparison_stages(recipe, reward, data))


def _described(recipe: Recipe, data: dict[str, Stage]) -> dict[str, Stage]:
    """With the report and the dataset's folder, which nothing is trained on: they change without a training."""
    if recipe.data.report:
        data["report"] = report_stage(recipe, data, recipe.data.report)
    return data | {"dataset": dataset_stage(recipe, data)}


def _row(
    recipe: Recipe,
    row: str,
    method: str,
    training: Training,
    ranked: Stage,
    reference: Stage,
    policy: Stage | None,
    start: Row | None = None,
) -> Row:
    heldout = heldout_stage(recipe, row, training, ranked, reference, policy, start.policy if start else None)
    return Row(row, method, policy, scoring_bits(training) if policy else None, heldout, {}, {}, start)


def _evaluate(recipe: Recipe, evaluation: Evaluation, benchmark: Benchmark, rows: list[Row]) -> None:
    """Add the answers of every row to a benchmark, then the verdicts; a reference row's answers are an input."""
    name = benchmark.name  # type: ignore[attr-defined]
    for row in rows:
        if row.system is None:
            row.answers[name] = answers_stage(recipe, row.id, evaluation, benchmark, row.policy, row.bits, row.sft)
        elif name in row.system.answers:
            row.answers[name] = recorded_answers_stage(row.system, benchmark)
    needed = getattr(benchmark, "needs_row", None)
    other = next((r for r in rows if r.id == needed), None)
    if needed and (not other or name not in other.answers):
        raise RecipeError(f"evaluation.benchmarks: {name}: no row '{needed}' with answers to be the reference")
    reference = other.answers[name] if other else None
    for row in rows:
        if name not in row.answers:
            continue
        if row.system and is_replay(recipe):
            row.verdicts[name] = recorded_verdicts_stage(row.system, benchmark, row.answers[name], reference)
        else:
            row.verdicts[name] = verdicts_stage(recipe, row.id, evaluation, benchmark, row.answers[name], reference)
