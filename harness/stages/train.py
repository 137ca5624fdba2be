"""The training stage of a method: by the harness's own trainer with any loss, or by TRL's with any of TRL's."""

from importlib.metadata import version
from typing import Any, NamedTuple

from harness.components import identity, source_hash
from harness.engine.stage import Context, Estimate, Stage, derived_seed
from harness.protocols import Loss
from harness.recipe.arms import Arm
from harness.recipe.policy import scored_identity
from harness.recipe.sizes import Later
from harness.recipe.training import Point, Training
from harness.recipe.trl_loss import TrlLoss
from harness.trackers.tracked import current
from harness.training.budget import Budget, budget_used
from harness.training.checkpoint import starting_point
from harness.training.setup import TrainingSetup, products_identity, training_identity
from harness.types import RankedExample


class Sources(NamedTuple):
    """The stages that a training depends on. `sft`: the fine-tuned policy that it starts from. `matched`: the training
    whose budget it gets; the report then has `match`, `budget` and `used`. `previous`: that of the round before, which
    this one, round `later`, goes on with."""

    ranked: Stage
    reference: Stage
    sft: Stage | None = None
    matched: Stage | None = None
    previous: Stage | None = None
    later: Later | None = None


def policy_stage(setup: TrainingSetup, arm: Arm, sources: Sources, points: tuple[Point, ...] = ()) -> Stage:
    """One trained policy: `checkpoint/` (a PEFT adapter or a whole model, with its tokenizer), `trained/` where
    the former's weights were rounded, and `steps.jsonl`. `points`: the same at these, in `at/NAME`."""
    loss = arm.method.loss
    if isinstance(loss, TrlLoss):
        return _trl_stage(setup, arm, loss, sources, points)
    return _harness_stage(setup, arm, loss, sources, points)


def _harness_stage(setup: TrainingSetup, arm: Arm, loss: Loss, sources: Sources, points: tuple[Point, ...]) -> Stage:
    training, runtime = arm.training, setup.runtime

    def body(ctx: Context) -> dict[str, Any]:
        from harness.training.ranked.job import TrainingJob

        ranked, budget = ctx.inputs["ranked"], _budget(ctx, arm, sources)
        ctx.progress.start(f"training {arm.id}", _prompts_to_see(training, ranked.report["train_prompts"], budget))
        start = starting_point(setup.policy, training, ctx.inputs.get("sft"), ctx.inputs.get("previous"))
        job = TrainingJob(
            policy=start.policy,
            adapter=start.adapter,
            loss=loss.model_dump(mode="json"),
            training=setup.within_memory(training),
            seed=_seed(setup, arm, sources),
            micro_batch_size=runtime.micro_batch_size,
            bounded_memory=runtime.memory == "one_response",
            budget=budget,
            examples=ranked.path("ranked.jsonl"),
            reference=ctx.inputs["reference"].path("reference.json"),
            folder=ctx.folder,
            partial_folder=ctx.partial,
            dtype=setup.policy.dtype,
            points=points,
            tracked=current(),
        )
        advance = ctx.progress.advance
        with setup.enough_memory(training, f"train/{arm.id}"):
            report = job.launch(runtime.launch.accelerate, advance) if runtime.launch else job.run(advance)
        return _with_budget(report, arm, budget)

    own = {"loss": {**identity(loss), "source": source_hash(loss)}}
    params = _params(setup, arm, sources, own) | _points_identity(points)
    if training.lora and training.lora.dropout:
        # What is dropped depends on the forward passes, and on the process that runs them.
        params["micro_batch_size"] = runtime.micro_batch_size
        params["launch"] = runtime.launch.model_dump(mode="json") if runtime.launch else None

    def estimate() -> Estimate:
        tokens = round(training.epochs * setup.sizes.response_tokens(training))
        if sources.matched:
            tokens = sources.matched.estimate().trained_tokens
        return setup.estimate(tokens, training, setup.sizes.trained_responses)

    inputs = {"reference": sources.reference, **_inputs(sources)}
    return Stage(f"train/{arm.id}", "train", 3, params, inputs, body, estimate)


def _trl_stage(setup: TrainingSetup, arm: Arm, loss: TrlLoss, sources: Sources, points: tuple[Point, ...]) -> Stage:
    """By TRL's DPOTrainer, which computes the reference's log-probabilities itself."""
    training, micro_batch_size = arm.training, setup.runtime.micro_batch_size
    reads_previous = sources.later is not None and sources.later.rounds.reference == "previous"

    def body(ctx: Context) -> dict[str, Any]:
        from harness.training.trl.dpo import train_with_trl
        from harness.training.trl.going_on import GoingOn

        budget = _budget(ctx, arm, sources)
        ctx.progress.start(f"training {arm.id}", None)
        start = starting_point(setup.policy, training, ctx.inputs.get("sft"), ctx.inputs.get("previous"))
        first = starting_point(setup.policy, training, ctx.inputs.get("sft"), None).policy
        with setup.enough_memory(training, f"train/{arm.id}", "trl"):
            report = train_with_trl(
                start.policy,
                ctx.inputs["ranked"].rows("ranked.jsonl", RankedExample),
                loss,
                setup.within_memory(training),
                folder=ctx.folder,
                seed=_seed(setup, arm, sources),
                micro_batch_size=micro_batch_size,
                advance=ctx.progress.advance,
                budget=budget,
                dtype=setup.policy.dtype,
                points=points,
                going_on=GoingOn(start.adapter, None if reads_previous else first) if sources.later else None,
            )
        return _with_budget(report, arm, budget)

    own = {"engine": {"trl": version("trl")}, "loss": loss.model_dump(mode="json")}
    params = _params(setup, arm, sources, own) | _points_identity(points)
    if sources.later:
        params["reference"] = sources.later.rounds.reference
    if loss.sees_whole_batch or (training.lora and training.lora.dropout):
        params["micro_batch_size"] = micro_batch_size

    def estimate() -> Estimate:
        n = setup.sizes.trained_responses
        tokens = round(training.epochs * setup.sizes.response_tokens(training) * 2 * loss.pairs_of(n) / n)
        if sources.matched:
            tokens = sources.matched.estimate().trained_tokens
        return setup.estimate(tokens, training, 2, "trl")

    return Stage(f"train/{arm.id}", "train", 3, params, _inputs(sources), body, estimate)


def _seed(setup: TrainingSetup, arm: Arm, sources: Sources) -> int:
    """Each round has its own order of the data."""
    purpose = ["train", *([f"round {sources.later.number}"] if sources.later else [])]
    return derived_seed(setup.seed if arm.seed is None else arm.seed, *purpose)


def _params(setup: TrainingSetup, arm: Arm, sources: Sources, loss: dict[str, Any]) -> dict[str, Any]:
    """What a training's result depends on besides its inputs. A budget takes the place of epochs."""
    training = training_identity(arm.training, arm.method.engine)
    params = {"policy": scored_identity(setup.policy), **loss, "training": training, "seed": _seed(setup, arm, sources)}
    params |= products_identity(setup.policy, arm.training)
    if sources.matched:
        del training["epochs"]
        params["match"] = arm.method.match
    return params


def _points_identity(points: tuple[Point, ...]) -> dict[str, Any]:
    return {"points": [point.name for point in points]} if points else {}


def _inputs(sources: Sources) -> dict[str, Stage]:
    stages = {"ranked": sources.ranked, "sft": sources.sft, "match": sources.matched, "previous": sources.previous}
    return {role: stage for role, stage in stages.items() if stage}


def _budget(ctx: Context, arm: Arm, sources: Sources) -> Budget | None:
    """What the matched training used."""
    if sources.matched is None or arm.method.match is None:
        return None
    return budget_used(ctx.inputs["match"].report, arm.method.match, sources.matched.id)


def _with_budget(report: dict[str, Any], arm: Arm, budget: Budget | None) -> dict[str, Any]:
    """The report, with the budget and how much of it was used."""
    if budget is None:
        return report
    used = budget_used(report, budget.unit, arm.id)
    return report | {"match": budget.unit, "budget": budget.amount, "used": used.amount}


def _prompts_to_see(training: Training, examples: int, budget: Budget | None) -> int | None:
    """About how many prompts training goes through, for a progress bar; None where that is unknown in advance."""
    if budget is None:
        return round(training.epochs * examples)
    return {"steps": budget.amount * training.batch_size, "prompts": budget.amount}.get(budget.unit)
