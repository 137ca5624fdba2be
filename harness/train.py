"""The stage of supervised fine-tuning, and what the training stages have in common."""

from importlib.metadata import version
from typing import Any, Literal

from harness import models
from harness.models import Dtype
from harness.recipe import Policy, Recipe, Sft, Training
from harness.responses import CHARACTERS_PER_TOKEN, expected_seed_prompts, pair_tokens
from harness.stages import Context, Estimate, Stage, derived_seed
from harness.store import Artifact
from harness.trl_loss import Engine
from harness.types import RankedExample
from harness.workload import TRAINING, loading, work

CHECKPOINT = "checkpoint"


def policy_identity(recipe: Recipe) -> dict[str, Any]:
    """The untrained policy's part of a stage key."""
    return {"dtype": recipe.policy.dtype, **models.identity(recipe.policy.model, recipe.policy.revision)}


def starting_policy(recipe: Recipe, sft: Artifact | None) -> Policy:
    """What a method's training starts from and is held to: the recipe's policy, or what the `sft` stage made of it."""
    if sft is None:
        return recipe.policy
    return recipe.policy.model_copy(update={"model": str(sft.folder / CHECKPOINT), "revision": None})


def training_identity(training: Training, engine: Engine = "harness") -> dict[str, Any]:
    """The part of a stage key that says how it trains: a fine-tuning before that is an input of the stage, one of the
    seeds is its seed, and TRL's trainers write no checkpoints on the way and compute what they compute."""
    exclude = {"sft", "seeds"} | ({"save_every", "all_responses"} if engine == "trl" else set())
    return training.model_dump(mode="json", exclude=exclude)


def started_from(sft: Stage | None) -> dict[str, Stage]:
    """The input of a stage whose model starts from a fine-tuned one."""
    return {"sft": sft} if sft else {}


def scoring_dtype(recipe: Recipe, training: Training) -> Dtype:
    """The type in which log-probabilities are computed: the one that training uses, so that before the first step the
    policy's equal the reference's. Whole models are trained in float32."""
    return recipe.policy.dtype if training.lora else "float32"


def scoring_bits(training: Training) -> Literal[4, 8] | None:
    """The bits of the frozen base that training adapts, where it is quantised: scored as it is trained."""
    return training.lora.bits if training.lora else None


def sft_stage(recipe: Recipe, row: str, training: Training, sft: Sft, ranked: Stage) -> Stage:
    """The policy fine-tuned on the best response of each training prompt: `checkpoint/`, a whole model in float32.
    Methods with equal settings share it, whatever their preference training is."""
    training = training.of_sft(sft)
    seed = derived_seed(recipe.seed, "sft")

    def body(ctx: Context) -> dict[str, Any]:
        from harness.training.sft import fine_tune

        examples = ctx.inputs["ranked"].rows("ranked.jsonl", RankedExample)
        ctx.progress.start("supervised fine-tuning", round(training.epochs * len(examples)))
        return fine_tune(
            recipe.policy,
            examples,
            training,
            folder=ctx.folder,
            seed=seed,
            micro_batch_size=recipe.runtime.micro_batch_size,
            advance=ctx.progress.advance,
        )

    params = {
        "policy": policy_identity(recipe),
        "engine": {"trl": version("trl")},
        "training": training_identity(training, "trl"),
        "seed": seed,
    }
    if training.lora and training.lora.dropout:
        params["micro_batch_size"] = recipe.runtime.micro_batch_size

    def estimate() -> Estimate:
        tokens = response_tokens(recipe, training) / responses_a_prompt(recipe)
        return training_on(recipe, round(training.epochs * tokens))

    return Stage(f"train/{row}", "sft", 2, params, {"ranked": ranked}, body, estimate)


def training_on(recipe: Recipe, tokens: int) -> Estimate:
    """What training on so many response tokens costs; their prompts go through the policy once for all of them."""
    n = responses_a_prompt(recipe)
    longest = recipe.data.responses.max_new_tokens if recipe.data.responses else pair_tokens(recipe)
    prompts = tokens / (n * max(1, longest)) * pair_tokens(recipe) / 2
    policy = [recipe.policy.model]
    return Estimate(trained_tokens=tokens, work=work(policy, tokens + prompts, TRAINING, 6), waiting=loading(policy))


def responses_a_prompt(recipe: Recipe) -> int:
    """N; 2 where the seed's own pairs are trained on."""
    return recipe.data.responses.n if recipe.data.responses else 2


def response_tokens(recipe: Recipe, training: Training) -> int:
    """About how many response tokens the ranked dataset has to train on; reads the seed sets."""
    data = recipe.data
    prompts = expected_seed_prompts(recipe)[0]
    if data.responses is None:
        pairs = [pair for seed in data.seeds for pair in seed.pairs()]
        characters = sum(len(pair.chosen) + len(pair.rejected) for pair in pairs)
        return prompts * characters // (CHARACTERS_PER_TOKEN * len(pairs))
    prompts += data.prompts.count if data.prompts else 0
    return prompts * data.responses.n * min(training.max_length, data.responses.max_new_tokens)
