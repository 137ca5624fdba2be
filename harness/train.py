"""The training stages: reference log-probabilities once, then a trained policy a method, all on the same data."""

from typing import Any

from harness import models
from harness.arms import Arm
from harness.augment import CHARACTERS_PER_TOKEN, expected_seed_prompts, identity
from harness.components import source_hash
from harness.models import Dtype
from harness.recipe import Recipe, Training
from harness.stages import Context, Estimate, Stage, derived_seed
from harness.store import write_json
from harness.training.budget import Budget, used
from harness.types import RankedExample

CHECKPOINT = "checkpoint"


def policy_identity(recipe: Recipe) -> dict[str, Any]:
    """The untrained policy's part of a stage key."""
    return {"dtype": recipe.policy.dtype, **models.identity(recipe.policy.model, recipe.policy.revision)}


def scoring_dtype(recipe: Recipe, training: Training) -> Dtype:
    """The type in which log-probabilities are computed: the one that training uses, so that before the first step the
    policy's equal the reference's. Whole models are trained in float32."""
    return recipe.policy.dtype if training.lora else "float32"


def reference_stage(recipe: Recipe, ranked: Stage, training: Training) -> Stage:
    """Log-probabilities of all responses under the untrained policy: `reference.json`, {example id: [one a response]}.
    Methods that cut at the same lengths share it."""
    lengths = {"max_prompt_length": training.max_prompt_length, "max_length": training.max_length}
    dtype = scoring_dtype(recipe, training)

    def body(ctx: Context) -> dict[str, Any]:
        from harness.training.logps import score_rows

        examples = ctx.inputs["ranked"].rows("ranked.jsonl", RankedExample)
        examples += ctx.inputs["ranked"].rows("heldout.jsonl", RankedExample)
        rows = [(e.messages, r.text) for e in examples for r in e.responses]
        tokenizer = models.load_tokenizer(recipe.policy.model, recipe.policy.revision)
        model = models.load_causal_lm(recipe.policy.model, recipe.policy.revision, dtype)
        ctx.progress.start("reference log-probabilities", len(rows))
        scored = score_rows(
            model,
            tokenizer,
            rows,
            **lengths,
            batch_size=recipe.runtime.score_batch_size,
            advance=ctx.progress.advance,
        )
        found = iter(scored)
        write_json(ctx.folder / "reference.json", {e.id: [next(found).logp for _ in e.responses] for e in examples})
        return {
            "responses": len(rows),
            "tokens": sum(s.tokens for s in scored),
            "truncated": sum(s.truncated for s in scored),
        }

    params = {"policy": policy_identity(recipe), "dtype": dtype, **lengths}
    return Stage("reference", "reference", 1, params, {"ranked": ranked}, body)


def policy_stage(recipe: Recipe, arm: Arm, ranked: Stage, reference: Stage, matched: Stage | None = None) -> Stage:
    """One trained policy: `checkpoint/` (a PEFT adapter or a whole model, with its tokenizer) and `steps.jsonl`.
    `matched`: the training whose budget this one gets; the report then has `match`, `budget` and `used`."""
    method, training = arm.method, arm.training
    seed = derived_seed(recipe.seed if arm.seed is None else arm.seed, "train")

    def body(ctx: Context) -> dict[str, Any]:
        from harness.training.trainer import train_policy

        examples = ctx.inputs["ranked"].rows("ranked.jsonl", RankedExample)
        budget = used(ctx.inputs["match"].report, method.match, matched.id) if matched and method.match else None
        ctx.progress.start(f"training {arm.id}", _prompts_to_see(training, len(examples), budget))
        report = train_policy(
            recipe.policy,
            examples,
            ctx.inputs["reference"].json("reference.json"),
            method.loss,
            training,
            folder=ctx.folder,
            seed=seed,
            micro_batch_size=recipe.runtime.micro_batch_size,
            advance=ctx.progress.advance,
            budget=budget,
        )
        if budget is None:
            return report
        spent = used(report, budget.unit, arm.id).amount
        return report | {"match": budget.unit, "budget": budget.amount, "used": spent}

    params = {
        "policy": policy_identity(recipe),
        "loss": {**identity(method.loss), "source": source_hash(method.loss)},
        # One of the seeds is the seed; a budget takes the place of epochs.
        "training": training.model_dump(mode="json", exclude={"seeds", "epochs"} if matched else {"seeds"}),
        "seed": seed,
    }
    if matched:
        params["match"] = method.match
    if training.lora and training.lora.dropout:
        params["micro_batch_size"] = recipe.runtime.micro_batch_size  # what is dropped depends on the forwards

    def estimate() -> Estimate:
        if matched:
            return matched.estimate()
        return Estimate(trained_tokens=round(training.epochs * _response_tokens(recipe, training)))

    inputs = {"ranked": ranked, "reference": reference} | ({"match": matched} if matched else {})
    return Stage(f"train/{arm.id}", "train", 1, params, inputs, body, estimate)


def _prompts_to_see(training: Training, examples: int, budget: Budget | None) -> int | None:
    """About how many prompts training goes through, for a bar; None where that is not known yet."""
    if budget is None:
        return round(training.epochs * examples)
    return {"steps": budget.amount * training.batch_size, "prompts": budget.amount}.get(budget.unit)


def _response_tokens(recipe: Recipe, training: Training) -> int:
    """About how many response tokens the ranked dataset has to train on; reads the seed sets."""
    data = recipe.data
    prompts = expected_seed_prompts(recipe)[0]
    if data.responses is None:
        pairs = [pair for seed in data.seeds for pair in seed.pairs()]
        characters = sum(len(pair.chosen) + len(pair.rejected) for pair in pairs)
        return prompts * characters // (CHARACTERS_PER_TOKEN * len(pairs))
    prompts += data.prompts.count if data.prompts else 0
    return prompts * data.responses.n * min(training.max_length, data.responses.max_new_tokens)
