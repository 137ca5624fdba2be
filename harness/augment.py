"""The data's first stages: seed pairs, and new prompts made from them."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from harness.components import identity, question_identity
from harness.errors import DataError
from harness.leaks import LeakIndex
from harness.pairs_file import split
from harness.pool import Pool
from harness.prompt_filters import Dropped, Limits, PromptFilter, languages_of, user_text
from harness.prompting import choose_shots
from harness.recipe import PromptGeneration, Recipe
from harness.responses import CHARACTERS_PER_TOKEN, generating, sample_pools
from harness.stages import Context, Estimate, Stage, derived_seed
from harness.store import write_rows
from harness.types import Completion, Messages, PreferencePair, Prompt, Record, Sampling

ROUND = 1.25
"""A round of new prompts writes this many times those that are missing: some will be dropped."""


class LeakedSeed(Record):
    """A seed prompt that is also an evaluation set's."""

    id: str
    text: str
    set: str
    matched: str
    overlap: float


def leak_index(recipe: Recipe) -> LeakIndex:
    """All prompts of the evaluation sets that the recipe names."""
    benchmarks = recipe.evaluation.benchmarks if recipe.evaluation else []
    prompts = {identity(b)["name"]: b.all_prompts() for b in benchmarks}
    return LeakIndex(prompts, recipe.data.decontaminate.threshold)


def _against(recipe: Recipe) -> dict[str, Any]:
    """What leaks are looked for in, as part of a key: whole sets, whatever part of them is asked."""
    benchmarks = recipe.evaluation.benchmarks if recipe.evaluation else []
    whole = [{k: v for k, v in question_identity(b).items() if k != "limit"} for b in benchmarks]
    # Without an evaluation there is nothing to be leaked, however it would be looked for.
    return {"against": whole, **recipe.data.decontaminate.model_dump(mode="json")} if whole else {"against": []}


def seeds_stage(recipe: Recipe) -> Stage:
    """Seed pairs, split by prompt into `train.jsonl` (no more than `train_limit`) and `heldout.jsonl`; `leaks.jsonl`
    has those whose prompt is an evaluation set's, which are dropped unless the recipe keeps them."""

    def body(ctx: Context) -> dict[str, Any]:
        pairs: dict[str, PreferencePair] = {}
        left_out: Counter[str] = Counter()
        total = 0
        for seed in recipe.data.seeds:
            rows = seed.pairs()
            total += len(rows)
            left_out.update(seed.left_out())
            for pair in rows:
                pairs.setdefault(pair.id, pair)  # the first recipe entry that has a prompt provides it
        repeated = total - len(pairs)
        leaked = _leaked(list(pairs.values()), leak_index(recipe))
        if recipe.data.decontaminate.action == "drop":
            pairs = {i: p for i, p in pairs.items() if i not in {leak.id for leak in leaked}}
        train, heldout = split(list(pairs.values()), recipe.data.holdout, recipe.seed)
        train = train[: recipe.data.train_limit]
        write_rows(ctx.folder / "train.jsonl", train)
        write_rows(ctx.folder / "heldout.jsonl", heldout)
        write_rows(ctx.folder / "leaks.jsonl", leaked)
        return {
            "train": len(train),
            "heldout": len(heldout),
            "repeated_prompts": repeated,
            "left_out": dict(left_out),
            "leaks": _by_set(recipe, Counter(leak.set for leak in leaked)),
            "leaks_dropped": total - repeated - len(pairs),
        }

    params = {
        "seeds": [identity(s) for s in recipe.data.seeds],
        "holdout": recipe.data.holdout,
        "seed": recipe.seed,
        "leaks": _against(recipe),
    }
    if recipe.data.train_limit:
        params["train_limit"] = recipe.data.train_limit
    return Stage("seeds", "seeds", 4, params, {}, body)


def _leaked(pairs: Sequence[PreferencePair], index: LeakIndex) -> list[LeakedSeed]:
    found = []
    for pair in pairs:
        # A conversation has the evaluation's prompt in any of its turns.
        text = "\n".join(m.content for m in pair.messages if m.role == "user")
        if leak := index.find(text):
            found.append(LeakedSeed(id=pair.id, text=text, set=leak.set, matched=leak.text, overlap=leak.overlap))
    return found


def _by_set(recipe: Recipe, found: Counter[str]) -> dict[str, int]:
    """Hits for each evaluation set that was looked through, none too."""
    benchmarks = recipe.evaluation.benchmarks if recipe.evaluation else []
    return {name: found[name] for name in (identity(b)["name"] for b in benchmarks)}


def prompts_stage(recipe: Recipe, seeds: Stage, config: PromptGeneration) -> Stage:
    """New prompts: `prompts.jsonl`; what the filters dropped, and why, is in `dropped.jsonl` and counted."""
    seed = derived_seed(recipe.seed, "prompts")

    def body(ctx: Context) -> dict[str, Any]:
        train = ctx.inputs["seeds"].rows("train.jsonl", PreferencePair)
        heldout = ctx.inputs["seeds"].rows("heldout.jsonl", PreferencePair)
        known = [user_text(p.messages) for p in (*train, *heldout)]
        allowed = languages_of(known) if config.languages is None else frozenset(config.languages)
        limits = Limits(config.min_words, config.max_words, config.max_similarity)
        kept = PromptFilter(known, limits, leak_index(recipe), allowed, config.template)
        prompts, counts = _write_prompts(ctx, config, seed, train, kept)
        write_rows(ctx.folder / "dropped.jsonl", kept.dropped)
        if not prompts:
            raise DataError(
                f"data.prompts: none of {counts['written']} written prompts was usable ({kept.counts}); "
                "try more max_new_tokens, a lower temperature or another generator"
            )
        write_rows(ctx.folder / "prompts.jsonl", prompts)
        return {
            "wanted": config.count,
            "kept": len(prompts),
            **counts,
            "dropped": dict(sorted(kept.counts.items())),
            "leaks": _by_set(recipe, kept.leaks),
            "languages": sorted(allowed),
        }

    params = config.model_dump(mode="json", exclude={"generator"})
    params |= {"generator": identity(config.generator), "seed": seed, "leaks": _against(recipe)}

    def estimate() -> Estimate:
        # How many rounds a generator needs nobody knows before: the geometric mean of one and as many as it may have.
        texts = math.ceil(ROUND * config.count * math.sqrt(config.max_attempts))
        return generating([config.generator], texts, config.max_new_tokens)

    return Stage(
        "prompts",
        "prompts",
        4,
        params,
        {"seeds": seeds},
        body,
        estimate,
        exclusive=sample_pools(recipe, [config.generator], "prompts"),
        serves=config.count,
    )


def _write_prompts(
    ctx: Context, config: PromptGeneration, seed: int, train: Sequence[PreferencePair], kept: PromptFilter
) -> tuple[list[Prompt], Counter[str]]:
    """(prompts, how many were `written` and in how many `tokens`), round by round until there are enough or the
    attempts are used up. What a round writes follows from the seed and the rounds before, so that a run that was
    stopped finds it in the pool."""
    rng = random.Random(seed)
    sampling = Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
        stop=config.template.stop,
    )
    prompts: list[Prompt] = []
    counts: Counter[str] = Counter()
    rounds = 0
    while len(prompts) < config.count and rounds < config.max_attempts:
        rounds += 1
        wanted = math.ceil(ROUND * (config.count - len(prompts)))
        longest = CHARACTERS_PER_TOKEN * config.max_new_tokens
        shown = [choose_shots(train, config.shots, longest, rng, config.shot_sampling) for _ in range(wanted)]
        ctx.progress.start(f"new prompts, round {rounds}", wanted)
        round_seed = derived_seed(seed, "round", str(rounds))
        pool = Pool(config.generator, ctx.store.pool, seed=round_seed, advance=ctx.progress.advance)
        asked = [config.template.render([user_text(p.messages) for p in s]) for s in shown]
        texts = _sample(pool, asked, sampling)
        counts.update(written=wanted, tokens=sum(text.tokens for text in texts))
        accepted = [kept.accept(text, s) for text, s in zip(texts, shown, strict=True)]
        prompts += [p for p in accepted if p is not None]
    if len(prompts) < config.count:
        told = "%d of %d wanted prompts after %d rounds; more max_attempts or fewer filters give more (%s)"
        ctx.log.warning(told, len(prompts), config.count, rounds, kept.counts)
    surplus = prompts[config.count :]
    kept.dropped += [Dropped(text=user_text(p.messages), reason="surplus") for p in surplus]
    return prompts[: config.count], counts


def _sample(pool: Pool, asked: Sequence[Messages | str], sampling: Sampling) -> list[Completion]:
    """One text for each request. Equal ones, of which few shots make many, are given different samples."""
    times: Counter[Messages | str] = Counter()
    places: dict[int, list[int]] = defaultdict(list)
    for place, request in enumerate(asked):
        places[times[request]].append(place)
        times[request] += 1
    done: dict[int, Completion] = {}
    for sample, those in places.items():
        texts = pool.sample([asked[place] for place in those], sampling, range(sample, sample + 1))
        done |= {place: text[0] for place, text in zip(those, texts, strict=True)}
    return [done[place] for place in range(len(asked))]
