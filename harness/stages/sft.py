"""The stage of supervised fine-tuning, before any preference training."""

from importlib.metadata import version
from typing import Any

from harness.engine.stage import Context, Estimate, Stage, derived_seed
from harness.recipe.policy import scored_identity
from harness.recipe.training import Sft, Training
from harness.training.setup import TrainingSetup, products_identity, training_identity
from harness.types import RankedExample


def sft_stage(setup: TrainingSetup, row: str, training: Training, sft: Sft, ranked: Stage) -> Stage:
    """The policy fine-tuned on the best response of each training prompt: `checkpoint/`, a whole model in the policy's
    dtype, and where that is a half-precision one, `trained/`, in float32, from which trainings start. Methods with
    equal settings share it, whatever their preference training. `row`: id of its row on the board."""
    training = training.of_sft(sft)
    seed = derived_seed(setup.seed, "sft")
    micro_batch_size = setup.runtime.micro_batch_size

    def body(ctx: Context) -> dict[str, Any]:
        from harness.training.trl.sft import fine_tune

        examples = ctx.inputs["ranked"].rows("ranked.jsonl", RankedExample)
        ctx.progress.start("supervised fine-tuning", round(training.epochs * len(examples)))
        with setup.enough_memory(training, f"train/{row}", "trl"):
            return fine_tune(
                setup.policy,
                examples,
                setup.within_memory(training),
                folder=ctx.folder,
                seed=seed,
                micro_batch_size=micro_batch_size,
                advance=ctx.progress.advance,
            )

    params = {
        "policy": scored_identity(setup.policy),
        "engine": {"trl": version("trl")},
        "training": training_identity(training, "trl"),
        "seed": seed,
        **products_identity(setup.policy, training),
    }
    if training.lora and training.lora.dropout:
        params["micro_batch_size"] = micro_batch_size

    def estimate() -> Estimate:
        tokens = setup.sizes.response_tokens(training) / setup.sizes.trained_responses
        return setup.estimate(round(training.epochs * tokens), training, 1, "trl")

    return Stage(f"train/{row}", "sft", 3, params, {"ranked": ranked}, body, estimate)
