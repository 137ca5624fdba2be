"""A recipe becomes a plan: all stages with their keys, derived without running anything."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from harness.augment import prompts_stage, ranked_stage, responses_stage, reward_stage, seeds_stage
from harness.evaluate import BASE, answers_stage, heldout_stage, verdicts_stage
from harness.protocols import Benchmark
from harness.recipe import Evaluation, Recipe, Training
from harness.stages import Stage
from harness.train import policy_stage, reference_stage, scoring_bits, sft_stage

SFT = "sft"
"""The method of a row that is a policy after supervised fine-tuning and before any preference training."""


class Row(NamedTuple):
    """A row of the board, and the stages that it is made from; `policy` is None for the untrained base. `bits`: of the
    quantised base that its adapter is for. `start`: the fine-tuned policy's row that its training starts from, None for
    the untrained policy."""

    id: str
    method: str
    policy: Stage | None
    bits: Literal[4, 8] | None
    heldout: Stage
    answers: dict[str, Stage]
    verdicts: dict[str, Stage]
    start: "Row | None" = None

    @property
    def sft(self) -> Stage | None:
        """The stage of the fine-tuned policy that this row's training starts from."""
        return self.start.policy if self.start else None

    @property
    def stages(self) -> list[Stage]:
        """This row's own stages."""
        trained = [self.policy] if self.policy else []
        return [*trained, self.heldout, *self.answers.values(), *self.verdicts.values()]


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
            *(r.policy for r in self.rows if r.policy),
            *(r.heldout for r in self.rows),
            *(s for r in self.rows for s in r.answers.values()),
            *(s for r in self.rows for s in r.verdicts.values()),
        ]
        return list({stage.key: stage for stage in wanted}.values())


def make_plan(recipe: Recipe) -> Plan:
    """The plan of a recipe."""
    seeds = seeds_stage(recipe)
    data = {"seeds": seeds}
    if recipe.data.prompts:
        data["prompts"] = prompts_stage(recipe, seeds, recipe.data.prompts)
    data["responses"] = responses_stage(recipe, seeds, data.get("prompts"))
    data["reward"] = reward_stage(recipe, seeds)
    ranked = data["ranked"] = ranked_stage(recipe, data["responses"], data["reward"])

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
    for method in recipe.methods:
        training = recipe.training_of(method)
        start = fine_tuned(training)
        sft = start.policy if start else None
        own = reference(training, sft)
        policy = policy_stage(recipe, method, ranked, own, sft)
        rows.append(_row(recipe, method.id, method.label, training, ranked, own, policy, start))
    rows[1:1] = tuned.values()
    if recipe.evaluation:
        for benchmark in recipe.evaluation.benchmarks:
            _evaluate(recipe, recipe.evaluation, benchmark, rows)
    return Plan(data, rows)


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
        row.answers[name] = answers_stage(recipe, row.id, evaluation, benchmark, row.policy, row.bits, row.sft)
    needed = getattr(benchmark, "needs_row", None)
    reference = next(r for r in rows if r.id == needed).answers[name] if needed else None
    for row in rows:
        row.verdicts[name] = verdicts_stage(recipe, row.id, evaluation, benchmark, row.answers[name], reference)
