"""The training stage of a method: by the harness's own trainer with any loss, or by TRL's with any of TRL's."""

from importlib.metadata import version
from typing import Any, NamedTuple, cast

from harness.arms import Arm
from harness.components import Component, identity, source_hash
from harness.protocols import Loss
from harness.recipe import Recipe, Training
from harness.stages import Context, Estimate, Stage, derived_seed
from harness.train import (
    policy_identity,
    response_tokens,
    responses_a_prompt,
    started_from,
    starting_policy,
    training_identity,
    training_on,
)
from harness.training.budget import Budget, used
from harness.trl_loss import TrlLoss
from harness.types import RankedExample


class Sources(NamedTuple):
    """What a training rests on. `sft`: the fine-tuned policy that it starts from. `matched`: the training whose budget
    it gets; the report then has `match`, `budget` and `used`."""

    ranked: Stage
    reference: Stage
    sft: Stage | None = None
    matched: Stage | None = None


def policy_stage(recipe: Recipe, arm: Arm, sources: Sources) -> Stage:
    """One trained policy: `checkpoint/` (a PEFT adapter or a whole model, with its tokenizer) and `steps.jsonl`."""
    loss = arm.method.loss
    if isinstance(loss, TrlLoss):
        return _trl_stage(recipe, arm, loss, sources)
    return _own_stage(recipe, arm, loss, sources)


def _own_stage(recipe: Recipe, arm: Arm, loss: Loss, sources: Sources) -> Stage:
    training = arm.training

    def body(ctx: Context) -> dict[str, Any]:
        from harness.training.job import TrainingJob

        ranked, budget = ctx.inputs["ranked"], _budget(ctx, arm, sources)
        ctx.progress.start(f"training {arm.id}", _prompts_to_see(training, ranked.report["train_prompts"], budget))
        job = TrainingJob(
            policy=starting_policy(recipe, ctx.inputs.get("sft")),
            loss=cast(Component, loss).model_dump(mode="json"),
            training=training,
            seed=_seed(recipe, arm),
            micro_batch_size=recipe.runtime.micro_batch_size,
            bounded_memory=recipe.runtime.bounded_memory,
            report_to=recipe.runtime.report_to,
            budget=budget,
            examples=ranked.path("ranked.jsonl"),
            reference=ctx.inputs["reference"].path("reference.json"),
            folder=ctx.folder,
            partial_folder=ctx.partial,
            logs=ctx.store.logs / recipe.name / arm.id,
        )
        launch = recipe.runtime.launch
        advance = ctx.progress.advance
        return _spent(job.launch(launch.accelerate, advance) if launch else job.run(advance), arm, budget)

    params = _params(recipe, arm, sources, {"loss": {**identity(loss), "source": source_hash(loss)}})
    if training.lora and training.lora.dropout:
        # What is dropped depends on the forwards, and on which process runs them.
        params["micro_batch_size"] = recipe.runtime.micro_batch_size
        params["launch"] = recipe.runtime.launch.model_dump(mode="json") if recipe.runtime.launch else None

    def estimate() -> Estimate:
        if sources.matched:
            return sources.matched.estimate()
        return training_on(recipe, round(training.epochs * response_tokens(recipe, training)))

    inputs = {"reference": sources.reference, **_inputs(sources)}
    return Stage(f"train/{arm.id}", "train", 2, params, inputs, body, estimate)


def _trl_stage(recipe: Recipe, arm: Arm, loss: TrlLoss, sources: Sources) -> Stage:
    """TRL's DPOTrainer computes the reference's log-probabilities itself."""
    training = arm.training

    def body(ctx: Context) -> dict[str, Any]:
        from harness.training.trl_engine import train_with_trl

        budget = _budget(ctx, arm, sources)
        ctx.progress.start(f"training {arm.id}", None)
        report = train_with_trl(
            starting_policy(recipe, ctx.inputs.get("sft")),
            ctx.inputs["ranked"].rows("ranked.jsonl", RankedExample),
            loss,
            training,
            folder=ctx.folder,
            seed=_seed(recipe, arm),
            micro_batch_size=recipe.runtime.micro_batch_size,
            advance=ctx.progress.advance,
            budget=budget,
        )
        return _spent(report, arm, budget)

    own = {"engine": {"trl": version("trl")}, "loss": loss.model_dump(mode="json")}
    params = _params(recipe, arm, sources, own)
    if loss.sees_whole_batch or (training.lora and training.lora.dropout):
        params["micro_batch_size"] = recipe.runtime.micro_batch_size

    def estimate() -> Estimate:
        if sources.matched:
            return sources.matched.estimate()
        n = responses_a_prompt(recipe)
        pairs = {"best_worst": 1, "best_rest": n - 1, "adjacent": n - 1, "all_pairs": n * (n - 1) // 2}[loss.pairs]
        return training_on(recipe, round(training.epochs * response_tokens(recipe, training) * 2 * pairs / n))

    return Stage(f"train/{arm.id}", "train", 2, params, _inputs(sources), body, estimate)


def _seed(recipe: Recipe, arm: Arm) -> int:
    return derived_seed(recipe.seed if arm.seed is None else arm.seed, "train")


def _params(recipe: Recipe, arm: Arm, sources: Sources, own: dict[str, Any]) -> dict[str, Any]:
    """What a training's result depends on, but for its inputs; a budget takes the place of epochs."""
    training = training_identity(arm.training, arm.method.engine)
    params = {"policy": policy_identity(recipe), **own, "training": training, "seed": _seed(recipe, arm)}
    if sources.matched:
        del training["epochs"]
        params["match"] = arm.method.match
    return params


def _inputs(sources: Sources) -> dict[str, Stage]:
    matched = {"match": sources.matched} if sources.matched else {}
    return {"ranked": sources.ranked, **started_from(sources.sft), **matched}


def _budget(ctx: Context, arm: Arm, sources: Sources) -> Budget | None:
    """What the matched training used."""
    if sources.matched is None or arm.method.match is None:
        return None
    return used(ctx.inputs["match"].report, arm.method.match, sources.matched.id)


def _spent(report: dict[str, Any], arm: Arm, budget: Budget | None) -> dict[str, Any]:
    """The report, with the budget beside what was used of it."""
    if budget is None:
        return report
    spent = used(report, budget.unit, arm.id).amount
    return report | {"match": budget.unit, "budget": budget.amount, "used": spent}


def _prompts_to_see(training: Training, examples: int, budget: Budget | None) -> int | None:
    """About how many prompts training goes through, for a bar; None where that is not known yet."""
    if budget is None:
        return round(training.epochs * examples)
    return {"steps": budget.amount * training.batch_size, "prompts": budget.amount}.get(budget.unit)
