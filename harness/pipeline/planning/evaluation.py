"""The rows' answers to the benchmarks, and the verdicts on them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.benchmark import Benchmark
from harness.boards.gold.estimates import correctable
from harness.components import identity
from harness.engine.stage import Stage
from harness.errors import RecipeError
from harness.pipeline.planning.row import PlannedRow
from harness.protocols import Judge
from harness.recipe.evaluation import Evaluation
from harness.recipe.policy import Policy
from harness.recipe.recipe import BASE, Recipe
from harness.stages.answers import answers_stage, recorded_answers_stage
from harness.stages.divergence.kl import kl_stage
from harness.stages.proxies.answers import Rewards, rewards_stage
from harness.stages.proxies.samples import ROLE
from harness.stages.verdicts import computed_verdicts_stage, gold_stage, recorded_verdicts_stage, verdicts_stage
from harness.training.checkpoint import RowModel


def evaluated_rows(
    rows: Sequence[PlannedRow], evaluation: Evaluation, policy: Policy | None, seed: int, concurrency: int
) -> list[PlannedRow]:
    """The rows with their answers to each benchmark, and the verdicts on them."""
    for benchmark in evaluation.benchmarks:
        answers = _answers(rows, evaluation, benchmark, policy, seed)
        reference = _reference_answers(benchmark, answers)
        verdicts = {
            row.id: _verdicts(row, evaluation, benchmark, answers[row.id], reference, concurrency)
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


def _verdicts(
    row: PlannedRow, evaluation: Evaluation, benchmark: Benchmark, answers: Stage, reference: Stage | None, threads: int
) -> Stage:
    if not benchmark.judged:
        return computed_verdicts_stage(row.id, benchmark, answers, reference)
    if row.system and evaluation.is_replay:
        return recorded_verdicts_stage(row.system, benchmark, answers, reference)
    return verdicts_stage(row.id, evaluation, benchmark, answers, reference, threads)


def with_gold(
    rows: Sequence[PlannedRow], evaluation: Evaluation, judge: Judge, seed: int, concurrency: int
) -> list[PlannedRow]:
    """The rows with gold verdicts on the benchmarks whose figures these can correct. Raises RecipeError for none."""
    benchmarks = [b for b in evaluation.judged if correctable(b.figures_of(identity(b)))]
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


def with_rewards(rows: Sequence[PlannedRow], recipe: Recipe, data: Mapping[str, Stage]) -> list[PlannedRow]:
    """The rows with their answers scored by the recipe's known truth, if it has one, and by the reward model that made
    its data. Raises RecipeError for a truth without data."""
    evaluation = recipe.evaluation
    if evaluation is None or evaluation.gold_reward is None:
        return list(rows)
    if recipe.data is None or ROLE not in data:
        raise RecipeError("evaluation.gold_reward: there is no `data` whose reward it could be the truth of; remove it")
    rewards = Rewards(evaluation.gold_reward, data[ROLE], recipe.data.reward, data.get("reward"))
    base = next((row.answers for row in rows if row.id == BASE), {})
    launch = recipe.runtime.launch
    return [
        replace(row, rewards=rewards_stage(row.id, rewards, evaluation.benchmarks, row.answers, base, launch))
        for row in rows
    ]


def with_kl(rows: Sequence[PlannedRow], recipe: Recipe) -> list[PlannedRow]:
    """The trained rows with their divergence from the policy before training, if the recipe asks for it."""
    evaluation, policy = recipe.evaluation, recipe.policy
    if evaluation is None or not evaluation.kl or policy is None:
        return list(rows)
    benchmarks, runtime = evaluation.benchmarks, recipe.runtime
    return [
        replace(row, kl=kl_stage(row.id, _model(policy, row), evaluation.answers, benchmarks, row.answers, runtime))
        for row in rows
    ]


def _model(policy: Policy, row: PlannedRow) -> RowModel:
    return RowModel(policy, row.policy, row.sft, row.adapter, row.point)


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
            stages[row.id] = answers_stage(
                row.id, _model(policy, row), evaluation.answers, benchmark, seed, evaluation.benchmarks, rank
            )
    return stages


def _reference_answers(benchmark: Benchmark, answers: Mapping[str, Stage]) -> Stage | None:
    """The answers of the row that a benchmark compares with; None if it needs no row. Raises RecipeError."""
    row = benchmark.needs_row
    if row and row not in answers:
        raise RecipeError(f"evaluation.benchmarks: {benchmark.name}: no row '{row}' with answers to be the reference")
    return answers[row] if row else None
