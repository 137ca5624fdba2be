"""The stage that adds examples of earlier rounds to those of a round."""

import random
from collections.abc import Sequence
from typing import Any

from harness.engine.stage import Context, Stage, derived_seed
from harness.engine.store import write_rows
from harness.recipe.sizes import Later
from harness.types import RankedExample


def replay_stage(later: Later, own: Stage, earlier: Sequence[Stage], seed: int) -> Stage:
    """`ranked.jsonl` with the examples of a round and, behind them, as many of the `earlier` rounds as make up the
    recipe's share of all, drawn at random without repetition; all of them where there are too few. The id of each says
    its round, since rounds may have the same prompts."""
    seed = derived_seed(seed, f"replay in round {later.number}")

    def body(ctx: Context) -> dict[str, Any]:
        rows = ctx.inputs["ranked"].rows("ranked.jsonl", RankedExample)
        old = [
            example.model_copy(update={"id": f"{example.id}@round-{number}"})
            for number in range(1, later.number)
            for example in ctx.inputs[f"round-{number}"].rows("ranked.jsonl", RankedExample)
        ]
        share = later.rounds.replay
        wanted = round(share / (1 - share) * len(rows))
        if wanted > len(old):
            ctx.log.warning("only %d examples of earlier rounds for %d to be replayed", len(old), wanted)
        chosen = sorted(random.Random(seed).sample(range(len(old)), min(wanted, len(old))))
        write_rows(ctx.folder / "ranked.jsonl", [*rows, *(old[i] for i in chosen)])
        write_rows(ctx.folder / "heldout.jsonl", [])
        return {
            "train_prompts": len(rows) + len(chosen),
            "own": len(rows),
            "replayed": len(chosen),
            "responses": sum(len(e.responses) for e in rows) + sum(len(old[i].responses) for i in chosen),
        }

    inputs = {"ranked": own} | {f"round-{i + 1}": stage for i, stage in enumerate(earlier)}
    return Stage("replay", "replay", 1, {"share": later.rounds.replay, "seed": seed}, inputs, body)
