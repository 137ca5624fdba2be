"""The data's first stages: seed pairs, and new prompts made from them."""

import math
import random
from typing import Any

from harness.components import identity
from harness.errors import DataError
from harness.pairs_file import split
from harness.pool import Pool
from harness.prompting import ASK, TASK, PromptFilter, choose_shots, few_shot, user_text
from harness.recipe import PromptGeneration, Recipe
from harness.stages import Context, Estimate, Stage, derived_seed
from harness.store import write_rows
from harness.types import PreferencePair, Prompt, Sampling

CHARACTERS_PER_TOKEN = 4
"""A rule of thumb for English, used only to choose which seed prompts are short enough to be shown."""


def seeds_stage(recipe: Recipe) -> Stage:
    """Seed pairs, split by prompt into `train.jsonl` (no more than `train_limit`) and `heldout.jsonl`."""

    def body(ctx: Context) -> dict[str, Any]:
        pairs: dict[str, PreferencePair] = {}
        total = 0
        for seed in recipe.data.seeds:
            rows = seed.pairs()
            total += len(rows)
            for pair in rows:
                pairs.setdefault(pair.id, pair)  # the first recipe entry that has a prompt provides it
        train, heldout = split(list(pairs.values()), recipe.data.holdout, recipe.seed)
        train = train[: recipe.data.train_limit]
        write_rows(ctx.folder / "train.jsonl", train)
        write_rows(ctx.folder / "heldout.jsonl", heldout)
        return {"train": len(train), "heldout": len(heldout), "repeated_prompts": total - len(pairs)}

    params = {"seeds": [identity(s) for s in recipe.data.seeds], "holdout": recipe.data.holdout, "seed": recipe.seed}
    if recipe.data.train_limit:
        params["train_limit"] = recipe.data.train_limit
    return Stage("seeds", "seeds", 1, params, {}, body)


def prompts_stage(recipe: Recipe, seeds: Stage, config: PromptGeneration) -> Stage:
    """New prompts: `prompts.jsonl`; the report counts what each filter dropped."""
    seed = derived_seed(recipe.seed, "prompts")

    def body(ctx: Context) -> dict[str, Any]:
        train = ctx.inputs["seeds"].rows("train.jsonl", PreferencePair)
        heldout = ctx.inputs["seeds"].rows("heldout.jsonl", PreferencePair)
        kept = PromptFilter([user_text(p.messages) for p in (*train, *heldout)], config.max_similarity)
        rng = random.Random(seed)
        sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_new_tokens=config.max_new_tokens)
        prompts: list[Prompt] = []
        written = rounds = 0
        while len(prompts) < config.count and rounds < config.max_attempts:
            rounds += 1
            wanted = math.ceil(1.25 * (config.count - len(prompts)))
            longest = CHARACTERS_PER_TOKEN * config.max_new_tokens
            shown = [choose_shots(train, config.shots, longest, rng) for _ in range(wanted)]
            ctx.progress.start(f"new prompts, round {rounds}", wanted)
            round_seed = derived_seed(seed, "round", str(rounds))
            pool = Pool(config.generator, ctx.store.pool, seed=round_seed, advance=ctx.progress.advance)
            done = pool.sample([few_shot(s) for s in shown], sampling, range(1))
            written += wanted
            accepted = [kept.accept(texts[0], s) for texts, s in zip(done, shown, strict=True)]
            prompts += [p for p in accepted if p is not None]
        prompts = prompts[: config.count]
        if not prompts:
            raise DataError(
                f"data.prompts: none of {written} written prompts was usable ({dict(kept.dropped)}); "
                "try more max_new_tokens, a lower temperature or another generator"
            )
        write_rows(ctx.folder / "prompts.jsonl", prompts)
        return {"wanted": config.count, "kept": len(prompts), "written": written, "dropped": dict(kept.dropped)}

    params = config.model_dump(mode="json", exclude={"generator"})
    params |= {"generator": identity(config.generator), "seed": seed, "template": [TASK, ASK]}
    estimate = Estimate(generated_tokens=math.ceil(1.25 * config.count) * config.max_new_tokens)
    return Stage("prompts", "prompts", 1, params, {"seeds": seeds}, body, lambda: estimate)
