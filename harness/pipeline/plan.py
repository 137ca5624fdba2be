"""Derives a plan from a recipe: all stages with their keys, without running anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.benchmark import Benchmark
from harness.boards.gold.estimates import correctable
from harness.components import identity
from harness.engine.stage import Stage
from harness.errors import RecipeError
from harness.protocols import Judge
from harness.recipe.arms import Arm, arms_of, matched_arm, method_problems
from harness.recipe.data import Data
from harness.recipe.evaluation import Evaluation, System
from harness.recipe.policy import Policy
from harness.recipe.reading.plain_yaml import shown_path
from harness.recipe.recipe import BASE, SFT, Recipe
from harness.recipe.sizes import Sizes
from harness.recipe.systems import SYSTEM, system_problems
from harness.recipe.training import Lora, Training
from harness.stages.agreement import comparison_stages
from harness.stages.answers import answers_stage, recorded_answers_stage
from harness.stages.data_report import report_stage
from harness.stages.dataset import dataset_stage
from harness.stages.heldout import References, heldout_stage, references
from harness.stages.prompts import prompts_stage
from harness.stages.ranked import ranked_stage, seed_pairs_stage
from harness.stages.reference import reference_stage
from harness.stages.responses import responses_stage
from harness.stages.reward import reward_stage
from harness.stages.seeds import leak_search, seeds_stage
from harness.stages.sft import sft_stage
from harness.stages.train import Sources, policy_stage
from harness.stages.verdicts import gold_stage, recorded_verdicts_stage, verdicts_stage
from harness.training.checkpoint import RowModel, deployed_adapter
from harness.training.setup import TrainingSetup


@dataclass(frozen=True)
class PlannedRow:
    """A row of the board and its own stages. `policy`: the training of its model; None for the untrained policy and for
    systems. `adapter`: what its checkpoint holds; None: a whole model. `heldout`: None without training data. `start`:
    id of the fine-tuned row that its training starts from; `sft`: that row's stage. `arm`: its training; `matched`: the
    training whose budget it gets. `system`: the files of a row from files. `answers`, `verdicts`, `gold`: by
    benchmark."""

    id: str
    method: str
    policy: Stage | None = None
    adapter: Lora | None = None
    heldout: Stage | None = None
    start: str | None = None
    sft: Stage | None = None
    arm: Arm | None = None
    matched: Arm | None = None
    system: System | None = None
    answers: Mapping[str, Stage] = field(default_factory=dict)
    verdicts: Mapping[str, Stage] = field(default_factory=dict)
    gold: Mapping[str, Stage] = field(default_factory=dict)

    @property
    def stages(self) -> list[Stage]:
        """The stages of this row alone."""
        trained = [stage for stage in (self.policy, self.heldout) if stage]
        return [*trained, *self.answers.values(), *self.verdicts.values(), *self.gold.values()]


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
            *(stage for row in self.rows if row.policy for stage in _matched_first(row.policy)),
            *(row.heldout for row in self.rows if row.heldout),
            *(stage for row in self.rows for stage in row.answers.values()),
            *(stage for row in self.rows for stage in row.verdicts.values()),
            *(stage for row in self.rows for stage in row.gold.values()),
        ]
        return list({stage.key: stage for stage in stages}.values())


def _matched_first(policy: Stage) -> list[Stage]:
    """A training, preceded by the ones whose budget it depends on."""
    return [*(_matched_first(policy.inputs["match"]) if "match" in policy.inputs else []), policy]


def make_plan(recipe: Recipe) -> Plan:
    """The plan of a recipe. Raises RecipeError for methods or systems that contradict each other."""
    if problems := [*method_problems(recipe), *system_problems(recipe)]:
        raise RecipeError(f"{shown_path(problems[0].path)}: {problems[0].message}")
    data: dict[str, Stage] = {}
    rows: list[PlannedRow] = []
    if recipe.policy and recipe.data:
        sizes = Sizes(recipe.data)
        data = _data_stages(recipe, recipe.policy, recipe.data, sizes)
        if recipe.methods:
            setup = TrainingSetup(recipe.name, recipe.policy, recipe.runtime, recipe.seed, sizes)
            trainings = _Trainings(setup, data["ranked"])
            rows = trainings.rows(recipe)
            data |= trainings.shared
    if recipe.evaluation:
        if recipe.policy and not rows:
            rows = [PlannedRow(BASE, BASE)]
        rows += [PlannedRow(system.id, SYSTEM, system=system) for system in recipe.systems]
        concurrency = recipe.runtime.judge_concurrency
        rows = _evaluated(rows, recipe.evaluation, recipe.policy, recipe.seed, concurrency)
        if recipe.evaluation.gold and (judge := recipe.evaluation.gold.judge):
            rows = _with_gold(rows, recipe.evaluation, judge, recipe.seed, concurrency)
    return Plan(data, tuple(rows))


def _data_stages(recipe: Recipe, policy: Policy, data: Data, sizes: Sizes) -> dict[str, Stage]:
    """The stages of the ranked dataset by name, with those that only describe it."""
    seed, launch = recipe.seed, recipe.runtime.launch
    search = leak_search(data, recipe.evaluation)
    stages = {"seeds": seeds_stage(data, search, seed)}
    if data.responses is None or data.reward is None:  # a recipe has both or neither
        stages["ranked"] = seed_pairs_stage(stages["seeds"])
    else:
        if data.prompts:
            stages["prompts"] = prompts_stage(data.prompts, stages["seeds"], search, seed)
        stages["responses"] = responses_stage(
            data.responses, stages["seeds"], stages.get("prompts"), seed, sizes, policy.thinking
        )
        reward = reward_stage(data.reward, stages["seeds"], seed, sizes, launch=launch)
        stages |= {role: part for role, part in reward.inputs.items() if role != "seeds"}  # its parts first
        stages["reward"] = reward
        stages["ranked"] = ranked_stage(data.reward, stages["responses"], reward, sizes, launch)
        stages |= comparison_stages(data.reward, data.other_rewards, stages, seed, sizes, launch)
    if data.report:
        stages["report"] = report_stage(data.report, policy, stages["seeds"], stages["ranked"], seed, sizes)
    return stages | {"dataset": dataset_stage(recipe.name, data, stages)}


class _Trainings:
    """Plans the trainings of a recipe. `shared`: the stages that several rows may share, by name. Equal settings give
    equal stages with one key."""

    def __init__(self, setup: TrainingSetup, ranked: Stage) -> None:
        self.shared: dict[str, Stage] = {}
        self._setup = setup
        self._ranked = ranked
        self._tuned: dict[str, PlannedRow] = {}
        self._policies: dict[str, Stage] = {}

    def rows(self, recipe: Recipe) -> list[PlannedRow]:
        """The untrained base, then the rows that are only fine-tuned, then one row per training."""
        base = self._row(PlannedRow(BASE, BASE), recipe.training)
        arms = arms_of(recipe)
        matches = {arm.id: matched_arm(recipe, arm, arms) for arm in arms}
        trained = []
        for arm in arms:
            tuned = self._fine_tuned(arm.training)
            row = PlannedRow(
                arm.id,
                arm.method.label,
                policy=self._policy(arm, matches),
                start=tuned.id if tuned else None,
                sft=tuned.policy if tuned else None,
                arm=arm,
                matched=matches[arm.id],
            )
            trained.append(self._row(row, arm.training))
        rows = [base, *self._tuned.values(), *trained]
        # The references that training reads: TRL computes its own, and held-out figures in half precision need others.
        read = {needed.key for row in rows for stage in row.stages for needed in stage.inputs.values()}
        self.shared = {n: s for n, s in self.shared.items() if s.key in read or not n.startswith("reference/")}
        return rows

    def _row(self, row: PlannedRow, training: Training) -> PlannedRow:
        """The row with its evaluation on the held-out pairs."""
        adapter = deployed_adapter(training) if row.arm else None
        model = RowModel(self._setup.policy, row.policy, row.sft, adapter)
        trained_with = self._reference(training, row.sft)
        sizes, runtime = self._setup.sizes, self._setup.runtime
        needed = references(model, training, self._ranked, trained_with, sizes, runtime)
        reference = References(*(stage and self._shared_reference(stage) for stage in needed))
        heldout = heldout_stage(row.id, model, training, self._ranked, reference, sizes, runtime)
        return replace(row, adapter=adapter, heldout=heldout)

    def _reference(self, training: Training, sft: Stage | None) -> Stage:
        sizes, runtime = self._setup.sizes, self._setup.runtime
        stage = reference_stage(self._setup.policy, training, self._ranked, sft, sizes, runtime)
        return self._shared_reference(stage)

    def _shared_reference(self, stage: Stage) -> Stage:
        return self.shared.setdefault(f"reference/{stage.key}", stage)

    def _fine_tuned(self, training: Training) -> PlannedRow | None:
        """The row of the fine-tuned policy that a training starts from; it shows the effect of fine-tuning alone."""
        if training.sft is None:
            return None
        row = f"{SFT}-{len(self._tuned) + 1}" if self._tuned else SFT
        stage = sft_stage(self._setup, row, training, training.sft, self._ranked)
        if stage.key not in self._tuned:
            self.shared[f"{SFT}/{stage.key}"] = stage
            self._tuned[stage.key] = self._row(PlannedRow(row, SFT, policy=stage), training)
        return self._tuned[stage.key]

    def _policy(self, arm: Arm, matches: Mapping[str, Arm | None]) -> Stage:
        """The stage of a training, planned after the one whose budget it gets."""
        if arm.id not in self._policies:
            matched = matches[arm.id]
            tuned = self._fine_tuned(arm.training)
            sft = tuned.policy if tuned else None
            reference = self._reference(arm.training, sft)
            budget = self._policy(matched, matches) if matched else None
            self._policies[arm.id] = policy_stage(self._setup, arm, Sources(self._ranked, reference, sft, budget))
        return self._policies[arm.id]


def _evaluated(
    rows: Sequence[PlannedRow], evaluation: Evaluation, policy: Policy | None, seed: int, concurrency: int
) -> list[PlannedRow]:
    """The rows with their answers to each benchmark, and the verdicts on them."""
    for benchmark in evaluation.benchmarks:
        answers = _answers(rows, evaluation, benchmark, policy, seed)
        reference = _reference_answers(benchmark, answers)
        verdicts = {
            row.id: recorded_verdicts_stage(row.system, benchmark, answers[row.id], reference)
            if row.system and evaluation.judge.recorded
            else verdicts_stage(row.id, evaluation, benchmark, answers[row.id], reference, concurrency)
            for row in rows
            if row.id in answers
        }
        rows = [
            replace(
                row,
                answers={**row.answers, benchmark.name: answers[row.id]},
                verdicts={**row.verdicts, benchmark.name: verdicts[row.id]},
            )
            if row.id in answers
            else row
            for row in rows
        ]
    return list(rows)


def _with_gold(
    rows: Sequence[PlannedRow], evaluation: Evaluation, judge: Judge, seed: int, concurrency: int
) -> list[PlannedRow]:
    """The rows with gold verdicts on the benchmarks whose figures these can correct. Raises RecipeError for none."""
    benchmarks = [b for b in evaluation.benchmarks if correctable(b.figures_of(identity(b)))]
    if not benchmarks:
        names = ", ".join(benchmark.name for benchmark in evaluation.benchmarks)
        raise RecipeError(f"evaluation.gold: {names} has no mean of bounded verdicts, which gold ones could correct")
    gold: dict[str, dict[str, Stage]] = {}
    for row in rows:
        for benchmark in benchmarks:
            if stage := row.verdicts.get(benchmark.name):
                inputs = stage.inputs["answers"], stage.inputs.get("reference")
                made = gold_stage(row.id, evaluation, judge, benchmark, *inputs, seed, concurrency)
                gold.setdefault(row.id, {})[benchmark.name] = made
    return [replace(row, gold=gold.get(row.id, {})) for row in rows]


def _answers(
    rows: Sequence[PlannedRow], evaluation: Evaluation, benchmark: Benchmark, policy: Policy | None, seed: int
) -> dict[str, Stage]:
    """Answer stages by row; a system has one only if it has a file for the benchmark."""
    stages = {}
    # An engine of the policy is given the adapters of all rows.
    rank = max((row.adapter.r for row in rows if row.adapter and not row.sft), default=None)
    for row in rows:
        if row.system and benchmark.name in row.system.answers:
            stages[row.id] = recorded_answers_stage(row.system, benchmark)
        elif policy and not row.system:
            model = RowModel(policy, row.policy, row.sft, row.adapter)
            stages[row.id] = answers_stage(
                row.id, model, evaluation.answers, benchmark, seed, evaluation.benchmarks, rank
            )
    return stages


def _reference_answers(benchmark: Benchmark, answers: Mapping[str, Stage]) -> Stage | None:
    """The answers of the row that a benchmark compares with; None if it needs no row. Raises RecipeError."""
    row = benchmark.needs_row
    if row and row not in answers:
        raise RecipeError(f"evaluation.benchmarks: {benchmark.name}: no row '{row}' with answers to be the reference")
    return answers[row] if row else None
