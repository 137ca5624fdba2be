"""The training stages: reference log-probabilities once, then a trained policy a method, all on the same data."""

from typing import Any, Literal, cast

from harness import models
from harness.augment import expected_seed_prompts, identity
from harness.components import Component, source_hash
from harness.models import Dtype
from harness.recipe import Method, Recipe, Training
from harness.stages import Context, Estimate, Stage, derived_seed
from harness.store import write_json
from harness.types import RankedExample

CHECKPOINT = "checkpoint"


def policy_identity(recipe: Recipe) -> dict[str, Any]:
    """The untrained policy's part of a stage key."""
    return {"dtype": recipe.policy.dtype, **models.identity(recipe.policy.model, recipe.policy.revision)}


def scoring_dtype(recipe: Recipe, training: Training) -> Dtype:
    """The type in which log-probabilities are computed: the one that training uses, so that before the first step the
    policy's equal the reference's. Whole models are trained in float32."""
    return recipe.policy.dtype if training.lora else "float32"


def scoring_bits(training: Training) -> Literal[4, 8] | None:
    """The bits of the frozen base that training adapts, where it is quantised: scored as it is trained."""
    return training.lora.bits if training.lora else None


def reference_stage(recipe: Recipe, ranked: Stage, training: Training) -> Stage:
    """Log-probabilities of all responses under the untrained policy: `reference.json`, {example id: [one a response]}.
    Methods that cut at the same lengths share it."""
    lengths = {"max_prompt_length": training.max_prompt_length, "max_length": training.max_length}
    dtype, bits = scoring_dtype(recipe, training), scoring_bits(training)

    def body(ctx: Context) -> dict[str, Any]:
        from harness.training.logps import score_rows

        examples = ctx.inputs["ranked"].rows("ranked.jsonl", RankedExample)
        examples += ctx.inputs["ranked"].rows("heldout.jsonl", RankedExample)
        rows = [(e.messages, r.text) for e in examples for r in e.responses]
        tokenizer = models.load_tokenizer(recipe.policy.model, recipe.policy.revision)
        model = models.load_causal_lm(recipe.policy.model, recipe.policy.revision, dtype, bits)
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

    params = {"policy": policy_identity(recipe), "dtype": dtype, **lengths, **({"bits": bits} if bits else {})}
    return Stage("reference", "reference", 1, params, {"ranked": ranked}, body)


def policy_stage(recipe: Recipe, method: Method, ranked: Stage, reference: Stage) -> Stage:
    """One trained policy: `checkpoint/` (a PEFT adapter or a whole model, with its tokenizer) and `steps.jsonl`."""
    training = recipe.training_of(method)
    seed = derived_seed(recipe.seed, "train")

    def body(ctx: Context) -> dict[str, Any]:
        from harness.training.job import TrainingJob

        ranked = ctx.inputs["ranked"]
        ctx.progress.start(f"training {method.id}", round(training.epochs * ranked.report["train_prompts"]))
        job = TrainingJob(
            policy=recipe.policy,
            loss=cast(Component, method.loss).model_dump(mode="json"),
            training=training,
            seed=seed,
            micro_batch_size=recipe.runtime.micro_batch_size,
            bounded_memory=recipe.runtime.bounded_memory,
            report_to=recipe.runtime.report_to,
            max_steps=None,
            examples=ranked.path("ranked.jsonl"),
            reference=ctx.inputs["reference"].path("reference.json"),
            folder=ctx.folder,
            partial_folder=ctx.partial,
            logs=ctx.store.logs / recipe.name / method.id,
        )
        launch = recipe.runtime.launch
        return job.launch(launch.accelerate, ctx.progress.advance) if launch else job.run(ctx.progress.advance)

    params = {
        "policy": policy_identity(recipe),
        "loss": {**identity(method.loss), "source": source_hash(method.loss)},
        "training": training.model_dump(mode="json"),
        "seed": seed,
    }
    if training.lora and training.lora.dropout:
        params["micro_batch_size"] = recipe.runtime.micro_batch_size  # what is dropped depends on the forwards

    def estimate() -> Estimate:
        data = recipe.data
        prompts = expected_seed_prompts(recipe)[0] + (data.prompts.count if data.prompts else 0)
        tokens = prompts * data.responses.n * min(training.max_length, data.responses.max_new_tokens)
        return Estimate(trained_tokens=round(training.epochs * tokens))

    inputs = {"ranked": ranked, "reference": reference}
    return Stage(f"train/{method.id}", "train", 2, params, inputs, body, estimate)
