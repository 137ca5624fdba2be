"""The stage that takes as many new prompts as the recipe wants for each seed prompt."""

from itertools import islice
from typing import Any

from harness.engine.stage import Context, Stage
from harness.engine.store import write_rows
from harness.errors import DataError
from harness.recipe.sizes import seed_prompt_count
from harness.types import Prompt


def share_stage(per_seed: float, seed_prompts: bool | int, seeds: Stage, prompts: Stage) -> Stage:
    """`prompts.jsonl` with the first `per_seed` new prompts for each seed prompt that is ranked, so that a smaller
    share is a part of a larger one. `seed_prompts`: as in the recipe's `responses`."""

    def body(ctx: Context) -> dict[str, Any]:
        written = ctx.inputs["prompts"]
        ranked = seed_prompt_count(seed_prompts, ctx.inputs["seeds"].report["train"])
        wanted, most, kept = round(per_seed * ranked), written.report["wanted"], written.report["kept"]
        if wanted > most:
            raise DataError(
                f"data.generated_per_seed: {per_seed:g} for each of {ranked:,} seed prompts are {wanted:,} new "
                f"prompts, and data.prompts.count is {most:,}: raise it"
            )
        if wanted > kept:
            ctx.log.warning("only %d of %d new prompts for %d seed prompts: all are used", kept, wanted, ranked)
        write_rows(ctx.folder / "prompts.jsonl", islice(written.stream("prompts.jsonl", Prompt), wanted))
        used = min(wanted, kept)
        return {"new_prompts": used, "seed_prompts": ranked, "generated_per_seed": used / ranked if ranked else None}

    params = {"generated_per_seed": per_seed, "seed_prompts": seed_prompts}
    return Stage("share", "share", 1, params, {"seeds": seeds, "prompts": prompts}, body)
