"""The stage of responses: N to every prompt, the seed's own chosen and rejected answers among them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.components import identity
from harness.journal import content_key
from harness.pairs_file import heldout_count
from harness.pool import Pool
from harness.recipe import Recipe, ResponseGeneration
from harness.recipe_data import Source
from harness.stages import Context, Estimate, Stage, derived_seed
from harness.store import write_rows
from harness.types import Completion, PreferencePair, Prompt, Response, ResponseGroup, Sampling
from harness.workload import GENERATING, REPLY_SECONDS, loading, models_in, work


def responses_stage(recipe: Recipe, seeds: Stage, prompts: Stage | None, config: ResponseGeneration) -> Stage:
    """N responses a prompt: `responses.jsonl`, one `ResponseGroup` a line. Held-out prompts get responses too: the rank
    correlation is measured on them."""
    seed = derived_seed(recipe.seed, "responses")

    def body(ctx: Context) -> dict[str, Any]:
        groups = given_responses(ctx, config.seed_prompts, config.seed_responses)
        sampled: dict[str, list[Response]] = {g.id: [] for g in groups}
        tokens = 0
        for given in (0, 2):
            part = [g for g in groups if len(g.responses) == given]
            before: Counter[str] = Counter()  # a generator that is named twice goes on with its next samples
            for source in config.sources_of(config.n - given) if part and given < config.n else []:
                name = content_key(identity(source.generator))
                wanted = range(before[name], before[name] + source.n)
                before[name] += source.n
                for group, done in zip(part, _sample(ctx, config, source, part, seed, wanted), strict=True):
                    sampled[group.id] += [_response(c, source) for c in done]
                    tokens += sum(c.tokens for c in done)
        full = [g.model_copy(update={"responses": (*g.responses, *sampled[g.id])}) for g in groups]
        return _write_groups(ctx, full) | {"tokens": tokens}

    inputs = {"seeds": seeds} | ({"prompts": prompts} if prompts else {})

    def estimate() -> Estimate:
        count = recipe.data.prompts.count if recipe.data.prompts else 0
        train, heldout = expected_seed_prompts(recipe)
        texts = count * config.n + train * (config.n - 2 * config.seed_responses) + heldout * (config.n - 2)
        return generating([s.generator for s in config.sources_of(config.n)], texts, config.max_new_tokens)._replace(
            pool=content_key([pooled, {role: stage.key for role, stage in inputs.items()}])
        )

    # N=5 has the samples of N=4 among them.
    pooled = {k: v for k, v in _params(config, seed).items() if k not in ("n", "sources")}
    pooled["generators"] = [identity(source.generator) for source in config.sources_of(config.n)]
    generators = [source.generator for source in config.sources_of(config.n)]
    return Stage(
        "responses",
        "responses",
        3,
        _params(config, seed),
        inputs,
        body,
        estimate,
        exclusive=sample_pools(recipe, generators, "responses"),
        serves=config.n,
    )


def generating(generators: Sequence[object], texts: int, longest: int) -> Estimate:
    """What sampling so many texts costs, evenly from all generators."""
    served = [generator for generator in generators if hasattr(generator, "base_url")]
    waiting = sum(texts / len(generators) * REPLY_SECONDS / getattr(g, "concurrency", 8) for g in served)
    in_process = models_in(list(generators))
    tokens = texts * longest
    computed = work(in_process, tokens / max(1, len(generators)), GENERATING)
    return Estimate(generated_tokens=tokens, work=computed, waiting=waiting + loading(in_process))


def sample_pools(recipe: Recipe, generators: Sequence[object], what: str) -> frozenset[str]:
    """Names of the pools that a stage adds samples to: one a generator and seed set, whatever part of it is taken."""
    sets = [{k: v for k, v in identity(s).items() if k not in ("limit", "weight")} for s in recipe.data.seeds]
    return frozenset(
        f"{what}/{content_key(identity(generator))[:16]}/{content_key(seeds)[:16]}"
        for generator in generators
        for seeds in sets
    )


def _params(config: ResponseGeneration, seed: int) -> dict[str, Any]:
    params = config.model_dump(mode="json", exclude={"generator", "sources"})
    # One generator, and one source that writes all, are the same.
    written = [{"generator": identity(s.generator), "n": s.n} for s in config.sources_of(config.n)]
    return params | {"sources": written, "seed": seed}


def _sample(
    ctx: Context,
    config: ResponseGeneration,
    source: Source,
    groups: Sequence[ResponseGroup],
    seed: int,
    wanted: range,
) -> list[list[Completion]]:
    """The responses of one source to every group's prompt: which of its samples are `wanted`."""
    name = _generator_name(source.generator)
    sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_new_tokens=config.max_new_tokens)
    ctx.progress.start(f"responses by {name}", len(groups) * source.n)
    pool = Pool(source.generator, ctx.store.pool, seed=seed, advance=ctx.progress.advance)
    return pool.sample([g.messages for g in groups], sampling, wanted)


def _response(completion: Completion, source: Source) -> Response:
    name = _generator_name(source.generator)
    return Response(text=completion.text, source=name, finish_reason=completion.finish_reason)


def given_responses(ctx: Context, seed_prompts: bool | int, seed_responses: bool = True) -> list[ResponseGroup]:
    """The groups before sampling: seed prompts with their two answers, new prompts with none. Held-out prompts always
    have theirs: what is measured on them is how those are ordered."""

    def of_pair(pair: PreferencePair, split_name: Any) -> ResponseGroup:
        given = (
            Response(text=pair.chosen, source="seed:chosen"),
            Response(text=pair.rejected, source="seed:rejected"),
        )
        return ResponseGroup(
            id=pair.id,
            messages=pair.messages,
            responses=given if seed_responses or split_name == "heldout" else (),
            source=pair.source,
            split=split_name,
            category=pair.category,
        )

    groups: list[ResponseGroup] = []
    pairs = ctx.inputs["seeds"].rows("train.jsonl", PreferencePair)
    groups += [of_pair(p, "train") for p in pairs[: seed_prompt_count(seed_prompts, len(pairs))]]
    if "prompts" in ctx.inputs:
        for prompt in ctx.inputs["prompts"].rows("prompts.jsonl", Prompt):
            groups.append(
                ResponseGroup(
                    id=prompt.id,
                    messages=prompt.messages,
                    responses=(),
                    source=prompt.source,
                    split="train",
                    category=prompt.category,
                    shots=prompt.shots,
                )
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


CHARACTERS_PER_TOKEN = 4
"""A rule of thumb for English."""


def pair_tokens(recipe: Recipe) -> int:
    """About how many tokens a seed prompt has with one of its answers; reads the seed sets."""
    pairs = [pair for seed in recipe.data.seeds for pair in seed.pairs()[:500]]
    asked = sum(len(message.content) for pair in pairs for message in pair.messages)
    answered = sum(len(pair.chosen) + len(pair.rejected) for pair in pairs)
    return round((asked + answered / 2) / (CHARACTERS_PER_TOKEN * max(1, len(pairs))))


def scored_tokens(recipe: Recipe) -> int:
    """About how many tokens all responses have that are ranked, each with its prompt."""
    prompts = sum(expected_seed_prompts(recipe)) + (recipe.data.prompts.count if recipe.data.prompts else 0)
    n = recipe.data.responses.n if recipe.data.responses else 2
    return prompts * n * pair_tokens(recipe)
