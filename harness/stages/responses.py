"""The stage of responses: N to every prompt, the seed's own chosen and rejected answers among them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from harness.augmentation.pool import Pool
from harness.components import identity
from harness.engine.journal import content_key
from harness.engine.stage import Context, Estimate, Stage, derived_seed
from harness.engine.store import write_rows
from harness.models.templates.stripping import Thoughts, count_thoughts, with_openings
from harness.models.templates.thoughts import Thinking
from harness.models.workload import GENERATING, REPLY_SECONDS, loading, work
from harness.protocols import Generator
from harness.recipe.data import ResponseGeneration, ResponseSource
from harness.recipe.sizes import Sizes, seed_prompt_count
from harness.servers.addressed import engines_of
from harness.types import Completion, PreferencePair, Prompt, RankedExample, Response, ResponseGroup, Sampling


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
        sampled: dict[str, list[Response]] = {g.id: [] for g in groups}
        tokens, models, thoughts = 0, Counter[str](), Thoughts(thinking)
        for present in (0, 2):  # responses that a group has already
            part = [g for g in groups if len(g.responses) == present]
            offsets: Counter[str] = Counter()  # a generator that is named twice goes on with its next samples
            for source in config.sources_of(config.n - present) if part and present < config.n else []:
                name = content_key(identity(source.generator))
                samples = range(offsets[name], offsets[name] + source.n)
                offsets[name] += source.n
                for group, texts in zip(part, _sample(ctx, config, source, part, seed, samples), strict=True):
                    sampled[group.id] += [_response(text, source, thoughts.answer(text)) for text in texts]
                    tokens += sum(text.tokens for text in texts)
                    models.update(Pool.models(texts))
        full = [g.model_copy(update={"responses": (*g.responses, *sampled[g.id])}) for g in groups]
        answered = {"models": dict(sorted(models.items()))} if models else {}
        report = _write_groups(ctx, full) | {"tokens": tokens, **answered, **thoughts.report}
        _warn(ctx, thoughts)
        return report | own_thoughts(ctx, full)

    inputs = {"seeds": seeds} | ({"prompts": prompts} if prompts else {})
    generators = [source.generator for source in config.sources_of(config.n)]
    params = _params(config, seed) | ({"thinking": thinking} if thinking != "strip" else {})
    # Without N: the samples of N=4 are among those of N=5.
    pool = {k: v for k, v in params.items() if k not in ("n", "sources")}
    pool["generators"] = [identity(generator) for generator in generators]

    def estimate() -> Estimate:
        texts = sizes.new_prompts * config.n + sizes.seed_prompts * (config.n - 2 * config.seed_responses)
        texts += sizes.heldout_prompts * (config.n - 2)
        return sampling_estimate(generators, texts, config.most_tokens)._replace(
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
        engines=engines_of(*generators),
    )


def _params(config: ResponseGeneration, seed: int) -> dict[str, Any]:
    unset = {"max_thinking_tokens"} if config.max_thinking_tokens is None else set()
    params = config.model_dump(mode="json", exclude={"generator", "sources", *unset})
    # One generator is the same as one source that writes all N.
    sources = [{"generator": identity(s.generator), "n": s.n} for s in config.sources_of(config.n)]
    return params | {"sources": sources, "seed": seed}


def sampling_estimate(generators: Sequence[Generator], texts: int, longest: int) -> Estimate:
    """The cost of sampling `texts` texts of `longest` tokens, evenly from all generators."""
    served = [generator for generator in generators if generator.is_served]
    waiting = sum(texts / len(generators) * REPLY_SECONDS / generator.parallel_requests for generator in served)
    in_process = [model for generator in generators for model in generator.models_in_process()]
    tokens = texts * longest
    computed = work(in_process, tokens / max(1, len(generators)), GENERATING)
    return Estimate(generated_tokens=tokens, work=computed, waiting=waiting + loading(in_process))


def sample_pools(seeds: Stage, generators: Sequence[Generator], stage: str) -> frozenset[str]:
    """Names of the pools that a stage adds samples to: one per generator and seed set, whatever part of the set is
    used."""
    sets = [{k: v for k, v in seed_set.items() if k not in ("limit", "weight")} for seed_set in seeds.params["seeds"]]
    return frozenset(
        f"{stage}/{content_key(identity(generator))[:16]}/{content_key(seed_set)[:16]}"
        for generator in generators
        for seed_set in sets
    )


def groups_to_fill(ctx: Context, seed_prompts: bool | int, seed_responses: bool = True) -> list[ResponseGroup]:
    """The groups before sampling: seed prompts with their two answers, or with none unless `seed_responses`; new
    prompts with none. Held-out prompts always have theirs, since the policy is measured on their order."""
    pairs = ctx.inputs["seeds"].rows("train.jsonl", PreferencePair)
    pairs = pairs[: seed_prompt_count(seed_prompts, len(pairs))]
    new = ctx.inputs["prompts"].rows("prompts.jsonl", Prompt) if "prompts" in ctx.inputs else []
    return [
        *(_seed_group(pair, "train", seed_responses) for pair in pairs),
        *(_new_group(prompt) for prompt in new),
        *(_seed_group(pair, "heldout", True) for pair in ctx.inputs["seeds"].rows("heldout.jsonl", PreferencePair)),
    ]


def _seed_group(pair: PreferencePair, split: Literal["train", "heldout"], with_answers: bool) -> ResponseGroup:
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


def _new_group(prompt: Prompt) -> ResponseGroup:
    return ResponseGroup(
        id=prompt.id,
        messages=prompt.messages,
        responses=(),
        source=prompt.source,
        split="train",
        category=prompt.category,
        shots=prompt.shots,
    )


def _sample(
    ctx: Context,
    config: ResponseGeneration,
    source: ResponseSource,
    groups: Sequence[ResponseGroup],
    seed: int,
    samples: range,
) -> list[list[Completion]]:
    """One source's responses to every group's prompt. `samples`: which of its samples, counted from 0."""
    name = _generator_name(source.generator)
    sampling = Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
        max_thinking_tokens=config.max_thinking_tokens,
    )
    ctx.progress.start(f"responses by {name}", len(groups) * source.n)
    pool = Pool(source.generator, ctx.store.pool, seed=seed, advance=ctx.progress.advance)
    drawn = pool.sample([g.messages for g in groups], sampling, samples)
    if not source.generator.is_served:
        return drawn
    marked = iter(with_openings([completion for row in drawn for completion in row]))
    return [[next(marked) for _ in row] for row in drawn]


def _response(completion: Completion, source: ResponseSource, text: str) -> Response:
    name = _generator_name(source.generator)
    return Response(text=text, source=name, finish_reason=completion.finish_reason)


def _warn(ctx: Context, thoughts: Thoughts) -> None:
    """Warn of sampled texts that end inside a thought."""
    if thoughts.unfinished:
        ctx.log.warning(
            "%d of %d sampled responses end inside their thought and have no answer: raise max_new_tokens of "
            "data.responses, or set its max_thinking_tokens",
            thoughts.unfinished,
            thoughts.texts,
        )


def own_thoughts(ctx: Context, groups: Sequence[ResponseGroup | RankedExample]) -> dict[str, int]:
    """How many of the seed's own answers have a thought, for a report, with a warning; empty if none has."""
    own = [r.text for g in groups for r in g.responses if r.finish_reason is None]
    if not (count := count_thoughts(own)):
        return {}
    ctx.log.warning(
        "%d of %d answers of the seed sets have a thought, which is scored and trained on as it is", count, len(own)
    )
    return {"seed_answers_with_thoughts": count}


def _generator_name(generator: Generator) -> str:
    fields = identity(generator)
    return f"{fields['name']}:{fields.get('model', '')}".rstrip(":")


def _write_groups(ctx: Context, groups: Sequence[ResponseGroup]) -> dict[str, Any]:
    """Write all groups but those whose responses are all the same; returns counts of what is unusual about them."""
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
