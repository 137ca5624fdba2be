"""The stage of responses: N to every prompt, the seed's own chosen and rejected answers among them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Literal

from harness.augmentation.responding import Drawn, Responses, draw, generator_name
from harness.components import identity
from harness.engine.journal import content_key
from harness.engine.shards.spool import dealt
from harness.engine.stage import Context, Estimate, Spreads, Stage, derived_seed
from harness.engine.store import write_rows
from harness.models.demand.loads import REPLY_SECONDS, loading
from harness.models.demand.parts import sampling
from harness.models.templates.thoughts import Thinking
from harness.protocols import Component, Generator
from harness.recipe.data import ResponseGeneration
from harness.recipe.sizes import Sizes, seed_prompt_count
from harness.servers.addressed import engines_of
from harness.types import PreferencePair, Prompt, Response, ResponseGroup


def responses_stage(
    config: ResponseGeneration,
    seeds: Stage,
    prompts: Stage | None,
    seed: int,
    sizes: Sizes,
    thinking: Thinking = "strip",
) -> Stage:
    """N responses per prompt: `responses.jsonl`, one `ResponseGroup` per line. Held-out prompts get responses too, to
    measure rank correlations on. What is scored and trained on are sampled texts as they will be judged: without
    thoughts, unless `thinking` says so. The seed's own answers are as they are."""
    seed = derived_seed(seed, "responses")

    def body(ctx: Context) -> dict[str, Any]:
        groups = groups_to_fill(ctx, config.seed_prompts, config.seed_responses)
        return write_responses(ctx, config, groups, seed, thinking)

    inputs = {"seeds": seeds} | ({"prompts": prompts} if prompts else {})
    generators = [source.generator for source in config.sources_of(config.n)]
    params = params_of(config, seed) | ({"thinking": thinking} if thinking != "strip" else {})
    # Without N: the samples of N=4 are among those of N=5.
    pool = {k: v for k, v in params.items() if k not in ("n", "sources")}
    pool["generators"] = [identity(generator) for generator in generators]

    def estimate() -> Estimate:
        texts = sizes.new_prompts * config.n + sizes.seed_prompts * (config.n - 2 * config.seed_responses)
        texts += sizes.heldout_prompts * (config.n - 2)
        return sampling_estimate(generators, texts, config.most_tokens, sizes.prompt_tokens)._replace(
            pool=content_key([pool, {role: stage.key for role, stage in inputs.items()}])
        )

    return Stage(
        "responses",
        "responses",
        4,
        params,
        inputs,
        body,
        estimate,
        exclusive=sample_pools(seeds, generators, "responses"),
        serves=config.n,
        spreads=spreads_of(*generators),
        engines=engines_of(*generators),
    )


def write_responses(
    ctx: Context, config: ResponseGeneration, groups: Iterable[ResponseGroup], seed: int, thinking: Thinking
) -> dict[str, Any]:
    """Write `responses.jsonl`, the groups with what each misses of its N responses; returns the report."""
    names = dict.fromkeys(generator_name(source.generator) for source in config.sources_of(config.n))
    missing: Counter[int] = Counter()

    def rows() -> Iterator[tuple[str, ResponseGroup]]:
        for group in groups:
            missing[max(0, config.n - len(group.responses))] += 1
            yield group.id, group

    with dealt(rows(), ctx.folder, ctx.worker_count) as prompts:
        ctx.progress.start(f"responses by {', '.join(names)}", sum(n * count for n, count in missing.items()))
        openings = ctx.spread(partial(draw, config, seed), prompts.shards)
        responses = Responses(config, thinking, openings)
        write_rows(ctx.folder / "responses.jsonl", responses.groups(prompts.results(Drawn)))
    return responses.report(ctx)


def params_of(config: ResponseGeneration, seed: int) -> dict[str, Any]:
    """The part of a stage's key that says how responses are sampled."""
    unset = {"max_thinking_tokens"} if config.max_thinking_tokens is None else set()
    params = config.model_dump(mode="json", exclude={"generator", "sources", *unset})
    # One generator is the same as one source that writes all N.
    sources = [{"generator": identity(s.generator), "n": s.n} for s in config.sources_of(config.n)]
    return params | {"sources": sources, "seed": seed}


def sampling_estimate(generators: Sequence[Generator], texts: int, longest: int, prompt: int) -> Estimate:
    """The cost of sampling `texts` texts of `longest` tokens, evenly from all generators. `prompt`: tokens of a
    prompt."""
    served = [generator for generator in generators if generator.is_served]
    waiting = sum(texts / len(generators) * REPLY_SECONDS / generator.parallel_requests for generator in served)
    in_process = [model for generator in generators for model in generator.models_in_process()]
    tokens = texts * longest
    engines = [(engine.model, engine.gpus) for _, engine in engines_of(*generators)]
    loads = sampling(generators, texts, longest, prompt, engines)
    return Estimate(generated_tokens=tokens, loads=loads, waiting=waiting + loading(in_process))


def spreads_of(*components: Component) -> Spreads:
    """How a stage's shards are done: by one worker a node where all that its components do is ask servers elsewhere."""
    waits = all(c.has_served_parts() and not c.models_in_process() for c in components)
    return "by node" if waits and not engines_of(*components) else "by resources"


def sample_pools(seeds: Stage, generators: Sequence[Generator], stage: str) -> frozenset[str]:
    """Names of the pools that a stage adds samples to: one per generator and seed set, whatever part of the set is
    used."""
    sets = [{k: v for k, v in seed_set.items() if k not in ("limit", "weight")} for seed_set in seeds.params["seeds"]]
    return frozenset(
        f"{stage}/{content_key(identity(generator))[:16]}/{content_key(seed_set)[:16]}"
        for generator in generators
        for seed_set in sets
    )


def groups_to_fill(ctx: Context, seed_prompts: bool | int, seed_responses: bool = True) -> Iterator[ResponseGroup]:
    """The groups before sampling: seed prompts with their two answers, or with none unless `seed_responses`; new
    prompts with none. Held-out prompts always have theirs, since the policy is measured on their order."""
    seeds = ctx.inputs["seeds"]
    train = seeds.stream("train.jsonl", PreferencePair)
    for pair in islice(train, seed_prompt_count(seed_prompts, seeds.report["train"])):
        yield seed_group(pair, "train", seed_responses)
    if "prompts" in ctx.inputs:
        yield from map(new_group, ctx.inputs["prompts"].stream("prompts.jsonl", Prompt))
    for pair in seeds.stream("heldout.jsonl", PreferencePair):
        yield seed_group(pair, "heldout", True)


def seed_group(pair: PreferencePair, split: Literal["train", "heldout"], with_answers: bool) -> ResponseGroup:
    """A seed prompt with its own two answers, or with none."""
    answers = (
        Response(text=pair.chosen, source="seed:chosen"),
        Response(text=pair.rejected, source="seed:rejected"),
    )
    return ResponseGroup(
        id=pair.id,
        messages=pair.messages,
        responses=answers if with_answers else (),
        source=pair.source,
        split=split,
        category=pair.category,
    )


def new_group(prompt: Prompt) -> ResponseGroup:
    """A new prompt, which has no answers yet."""
    return ResponseGroup(
        id=prompt.id,
        messages=prompt.messages,
        responses=(),
        source=prompt.source,
        split="train",
        category=prompt.category,
        shots=prompt.shots,
    )
