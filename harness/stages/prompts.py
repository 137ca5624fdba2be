"""The stage of new prompts: a generator writes prompts like those of the seed, and filters drop what can't be used."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

from harness.augmentation.filters import DroppedPrompt, Limits, PromptFilter, languages_of, user_text
from harness.augmentation.pool import Pool
from harness.augmentation.shots import choose_shots
from harness.components import identity
from harness.engine.journal import content_key
from harness.engine.shards.spool import Shard, dealt
from harness.engine.stage import Context, Estimate, Stage, derived_seed
from harness.engine.store import write_rows
from harness.errors import DataError
from harness.models.templates.stripping import Thoughts
from harness.protocols import Generator
from harness.recipe.data import PromptGeneration
from harness.recipe.sizes import CHARACTERS_PER_TOKEN
from harness.servers.addressed import engines_of
from harness.stages.responses import sample_pools, sampling_estimate, spreads_of
from harness.stages.seeds import LeakSearch
from harness.types import Completion, Messages, PreferencePair, Prompt, Record, Sampling

SHOT = 128
"""Tokens of a seed prompt among those that the generator is shown, for estimates: our assumption."""
ROUND = 1.25
"""A round writes this many times the prompts that are still missing, since some will be dropped."""


def prompts_stage(config: PromptGeneration, seeds: Stage, search: LeakSearch, seed: int) -> Stage:
    """New prompts: `prompts.jsonl`, and `dropped.jsonl` with those that a filter dropped and the reason."""
    seed = derived_seed(seed, "prompts")

    def body(ctx: Context) -> dict[str, Any]:
        train = ctx.inputs["seeds"].rows("train.jsonl", PreferencePair)
        heldout = ctx.inputs["seeds"].rows("heldout.jsonl", PreferencePair)
        seed_texts = [user_text(p.messages) for p in (*train, *heldout)]
        languages = languages_of(seed_texts) if config.languages is None else frozenset(config.languages)
        limits = Limits(config.min_words, config.max_words, config.max_similarity)
        filters = PromptFilter(seed_texts, limits, search.index(), languages, config.template)
        prompts, counts, models = _write_prompts(ctx, config, seed, train, filters)
        write_rows(ctx.folder / "dropped.jsonl", filters.dropped)
        if not prompts:
            raise DataError(
                f"data.prompts: none of {counts['written']} written prompts was usable ({filters.counts}); "
                "try more max_new_tokens, a lower temperature or another generator"
            )
        write_rows(ctx.folder / "prompts.jsonl", prompts)
        return {
            "wanted": config.count,
            "kept": len(prompts),
            **counts,
            **({"models": models} if models else {}),
            "dropped": dict(sorted(filters.counts.items())),
            "leaks": search.counts(filters.leaks.elements()),
            "languages": sorted(languages),
        }

    params = config.model_dump(mode="json", exclude={"generator"})
    params |= {"generator": identity(config.generator), "seed": seed, "leaks": search.identity()}

    def estimate() -> Estimate:
        # The number of rounds is unknown in advance: the geometric mean of one and as many as there may be.
        texts = math.ceil(ROUND * config.count * math.sqrt(config.max_attempts))
        return sampling_estimate([config.generator], texts, config.max_new_tokens, (config.shots + 1) * SHOT)

    return Stage(
        "prompts",
        "prompts",
        5,
        params,
        {"seeds": seeds},
        body,
        estimate,
        exclusive=sample_pools(seeds, [config.generator], "prompts"),
        serves=config.count,
        spreads=spreads_of(config.generator),
        engines=engines_of(config.generator),
    )


def _write_prompts(
    ctx: Context, config: PromptGeneration, seed: int, train: Sequence[PreferencePair], filters: PromptFilter
) -> tuple[list[Prompt], Counter[str], dict[str, int]]:
    """(prompts, how many texts were `written`, how many `tokens` they have and, if any, how many had a thought, which
    was left out, or were `refused` by their server, which served models wrote how many),
    round by round until there are enough or the attempts are used up. A round follows from the seed and the rounds
    before it alone, so that a stopped run finds its samples in the pool."""
    rng = random.Random(seed)
    sampling = Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
        stop=config.template.stop,
    )
    longest = CHARACTERS_PER_TOKEN * config.max_new_tokens
    prompts: list[Prompt] = []
    counts: Counter[str] = Counter()
    written: list[Completion] = []
    rounds, thoughts = 0, Thoughts("strip")
    while len(prompts) < config.count and rounds < config.max_attempts:
        rounds += 1
        size = math.ceil(ROUND * (config.count - len(prompts)))
        shots = [choose_shots(train, config.shots, longest, rng, config.shot_sampling) for _ in range(size)]
        ctx.progress.start(f"new prompts, round {rounds}", size)
        round_seed = derived_seed(seed, "round", str(rounds))
        requests = [config.template.render([user_text(p.messages) for p in pairs]) for pairs in shots]
        texts = _sample(ctx, config.generator, round_seed, requests, sampling)
        answered = [(text, pairs) for text, pairs in zip(texts, shots, strict=True) if text is not None]
        if len(answered) < len(texts):
            counts.update(refused=len(texts) - len(answered))
        written += [text for text, _ in answered]
        counts.update(written=len(answered), tokens=sum(text.tokens for text, _ in answered))
        accepted = [
            filters.accept(text.model_copy(update={"text": thoughts.answer(text)}), pairs) for text, pairs in answered
        ]
        prompts += [prompt for prompt in accepted if prompt is not None]
    if counts["refused"]:
        ctx.log.warning("%d new prompts were refused by their server", counts["refused"])
    if thoughts.with_thoughts:
        counts.update(with_thoughts=thoughts.with_thoughts)
    if len(prompts) < config.count:
        warning = "only %d of %d new prompts after %d rounds; raise max_attempts or relax the filters (dropped: %s)"
        ctx.log.warning(warning, len(prompts), config.count, rounds, filters.counts)
    surplus = prompts[config.count :]
    filters.dropped += [DroppedPrompt(text=user_text(p.messages), reason="surplus") for p in surplus]
    return prompts[: config.count], counts, Pool.models(written)


class _Request(Record):
    """A text to be written. `sample`: which of its request's samples, counted from 0."""

    request: Messages | str
    sample: int


class _Written(Record):
    """What was written; None if it was refused."""

    text: Completion | None


def _sample(
    ctx: Context, generator: Generator, seed: int, requests: Sequence[Messages | str], sampling: Sampling
) -> list[Completion | None]:
    """One text per request; None if it was refused. Equal requests, which are frequent with few shots, get different
    samples."""
    repeats: Counter[Messages | str] = Counter()
    rows = []
    for request in requests:
        rows.append((content_key([str(request), repeats[request]]), _Request(request=request, sample=repeats[request])))
        repeats[request] += 1
    with dealt(rows, ctx.folder, ctx.worker_count) as parts:
        ctx.spread(partial(_write, generator, seed, sampling), parts.shards, more=True)
        return [written.text for written in parts.results(_Written)]


def _write(generator: Generator, seed: int, sampling: Sampling, ctx: Context, shard: Shard) -> None:
    """Write a shard's texts; the results are `_Written`."""
    rows = list(shard.rows(_Request))
    places: dict[int, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        places[row.sample].append(place)
    pool = Pool(generator, ctx.store.pool, seed=seed, advance=ctx.progress.advance, shard=ctx.shard)
    written: dict[int, Completion | None] = {}
    for sample, group in places.items():
        texts = pool.sample([rows[place].request for place in group], sampling, range(sample, sample + 1))
        written |= {place: row[0] for place, row in zip(group, texts, strict=True)}
    shard.write(_Written(text=written[place]) for place in range(len(rows)))
