"""The stage of responses: N to every prompt, the seed's own chosen and rejected answers among them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.components import identity
from harness.pairs_file import heldout_count
from harness.pool import Pool
from harness.recipe import Recipe, ResponseGeneration
from harness.stages import Context, Estimate, Stage, derived_seed
from harness.store import write_rows
from harness.types import PreferencePair, Prompt, Response, ResponseGroup, Sampling


def responses_stage(recipe: Recipe, seeds: Stage, prompts: Stage | None, config: ResponseGeneration) -> Stage:
    """N responses a prompt: `responses.jsonl`, one `ResponseGroup` a line. Seed prompts keep their chosen and rejected
    answers among the N. Held-out prompts get responses too: the rank correlation is measured on them."""
    seed = derived_seed(recipe.seed, "responses")
    sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_new_tokens=config.max_new_tokens)

    def body(ctx: Context) -> dict[str, Any]:
        groups = given_responses(ctx, config.seed_prompts)
        sampled: dict[str, tuple[Response, ...]] = {}
        source = _generator_name(config.generator)
        for given in (0, 2):
            part = [g for g in groups if len(g.responses) == given]
            missing = config.n - given
            if not part or missing == 0:
                continue
            ctx.progress.start("responses" if given == 0 else "responses to seed prompts", len(part) * missing)
            pool = Pool(config.generator, ctx.store.pool, seed=seed, advance=ctx.progress.advance)
            done = pool.sample([g.messages for g in part], sampling, range(missing))
            for group, texts in zip(part, done, strict=True):
                sampled[group.id] = tuple(
                    Response(text=t.text, source=source, finish_reason=t.finish_reason) for t in texts
                )
        full = [g.model_copy(update={"responses": (*g.responses, *sampled.get(g.id, ()))}) for g in groups]
        return _write_groups(ctx, full)

    params = config.model_dump(mode="json", exclude={"generator"})
    params |= {"generator": identity(config.generator), "seed": seed}
    inputs = {"seeds": seeds} | ({"prompts": prompts} if prompts else {})
    count = recipe.data.prompts.count if recipe.data.prompts else 0

    def estimate() -> Estimate:
        train, heldout = expected_seed_prompts(recipe)
        texts = count * config.n + (train + heldout) * (config.n - 2)
        return Estimate(generated_tokens=texts * config.max_new_tokens)

    return Stage("responses", "responses", 1, params, inputs, body, estimate)


def given_responses(ctx: Context, seed_prompts: bool | int) -> list[ResponseGroup]:
    """The groups before sampling: seed prompts with their two answers, new prompts with none."""

    def of_pair(pair: PreferencePair, split_name: Any) -> ResponseGroup:
        given = (
            Response(text=pair.chosen, source="seed:chosen"),
            Response(text=pair.rejected, source="seed:rejected"),
        )
        return ResponseGroup(id=pair.id, messages=pair.messages, responses=given, source=pair.source, split=split_name)

    groups: list[ResponseGroup] = []
    pairs = ctx.inputs["seeds"].rows("train.jsonl", PreferencePair)
    groups += [of_pair(p, "train") for p in pairs[: seed_prompt_count(seed_prompts, len(pairs))]]
    if "prompts" in ctx.inputs:
        for prompt in ctx.inputs["prompts"].rows("prompts.jsonl", Prompt):
            groups.append(
                ResponseGroup(id=prompt.id, messages=prompt.messages, responses=(), source=prompt.source, split="train")
            )
    return groups + [of_pair(p, "heldout") for p in ctx.inputs["seeds"].rows("heldout.jsonl", PreferencePair)]


def seed_prompt_count(seed_prompts: bool | int, there: int) -> int:
    """How many of the seed's training prompts are ranked: all, none, or the first so many."""
    return there * seed_prompts if isinstance(seed_prompts, bool) else min(seed_prompts, there)


def _generator_name(generator: object) -> str:
    known = identity(generator)
    return f"{known['name']}:{known.get('model', '')}".rstrip(":")


def _write_groups(ctx: Context, groups: Sequence[ResponseGroup]) -> dict[str, Any]:
    """Drop groups whose responses are all the same, count what is odd about the rest, and write them."""
    kept = [g for g in groups if len({r.text for r in g.responses}) > 1]
    sampled = [r for g in kept for r in g.responses if r.finish_reason is not None]
    counts = Counter(empty=0, cut_at_token_limit=0)
    for response in sampled:
        counts["empty"] += not response.text.strip()
        counts["cut_at_token_limit"] += response.finish_reason == "length"
    write_rows(ctx.folder / "responses.jsonl", kept)
    return {
        "prompts": len(kept),
        "responses": sum(len(g.responses) for g in kept),
        "sampled": len(sampled),
        "dropped_all_identical": len(groups) - len(kept),
        "repeated_responses": sum(len(g.responses) - len({r.text for r in g.responses}) for g in kept),
        **counts,
    }


def expected_seed_prompts(recipe: Recipe) -> tuple[int, int]:
    """How many of the seed's prompts will be ranked for training, and how many held out; reads the seed sets."""
    rows = sum(len(s.pairs()) for s in recipe.data.seeds)
    heldout = heldout_count(recipe.data.holdout, rows)
    train = min(recipe.data.train_limit or rows, rows - heldout)
    return seed_prompt_count(recipe.data.responses.seed_prompts if recipe.data.responses else True, train), heldout
