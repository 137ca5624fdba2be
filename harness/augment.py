"""The data's stages: seed pairs, new prompts, N responses, the reward model, the ranked dataset; or only seed pairs,
which are a ranked dataset of two responses a prompt."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from harness import stats
from harness.components import Component
from harness.errors import DataError
from harness.pairs_file import heldout_count, split
from harness.prompting import ASK, TASK, PromptFilter, choose_shots, few_shot, user_text
from harness.protocols import RewardModel
from harness.recipe import PromptGeneration, Recipe, ResponseGeneration
from harness.stages import Context, Estimate, Stage, derived_seed
from harness.store import write_json, write_rows
from harness.types import (
    Metric,
    PreferencePair,
    Prompt,
    RankedExample,
    Response,
    ResponseGroup,
    Sampling,
)

CHARACTERS_PER_TOKEN = 4
"""A rule of thumb for English, used only to choose which seed prompts are short enough to be shown."""


def identity(component: object) -> dict[str, Any]:
    """A component's part of a stage key."""
    return cast(Component, component).identity()


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
            done = config.generator.generate(
                [few_shot(s) for s in shown],
                [sampling] * wanted,
                n=1,
                seed=derived_seed(seed, "round", str(rounds)),
                advance=ctx.progress.advance,
            )
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


def responses_stage(recipe: Recipe, seeds: Stage, prompts: Stage | None, config: ResponseGeneration) -> Stage:
    """N responses a prompt: `responses.jsonl`, one `ResponseGroup` a line. Seed prompts keep their chosen and rejected
    answers among the N. Held-out prompts get responses too: the rank correlation is measured on them."""
    seed = derived_seed(recipe.seed, "responses")
    sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_new_tokens=config.max_new_tokens)

    def body(ctx: Context) -> dict[str, Any]:
        groups = _given_responses(ctx, config.seed_prompts)
        sampled: dict[str, tuple[Response, ...]] = {}
        source = _generator_name(config.generator)
        for given in (0, 2):
            part = [g for g in groups if len(g.responses) == given]
            missing = config.n - given
            if not part or missing == 0:
                continue
            ctx.progress.start("responses" if given == 0 else "responses to seed prompts", len(part) * missing)
            done = config.generator.generate(
                [g.messages for g in part],
                [sampling] * len(part),
                n=missing,
                seed=seed,
                advance=ctx.progress.advance,
            )
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


def _given_responses(ctx: Context, seed_prompts: bool | int) -> list[ResponseGroup]:
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


def reward_stage(recipe: Recipe, seeds: Stage, reward: RewardModel) -> Stage:
    """The reward model, trained where it is of a kind that is; the report has its accuracy on the held-out pairs."""
    seed = derived_seed(recipe.seed, "reward")

    def body(ctx: Context) -> dict[str, Any]:
        train = ctx.inputs["seeds"].rows("train.jsonl", PreferencePair)
        heldout = ctx.inputs["seeds"].rows("heldout.jsonl", PreferencePair)
        ctx.progress.start("training the reward model", None)
        report = reward.fit(train, ctx.folder, seed=seed, advance=ctx.progress.advance)
        ctx.progress.start("reward model on held-out pairs", 2 * len(heldout))
        rows = [(p.messages, text) for p in heldout for text in (p.chosen, p.rejected)]
        scores = reward.score(rows, ctx.folder, advance=ctx.progress.advance)
        accuracy = _pair_accuracy(list(zip(scores[::2], scores[1::2], strict=True)))
        return {"training": report, "heldout_accuracy": accuracy.model_dump(mode="json")}

    params = {"reward": identity(reward), "seed": seed}
    return Stage("reward", "reward", 2, params, {"seeds": seeds}, body)


def _pair_accuracy(pairs: Sequence[tuple[float | None, float | None]]) -> Metric:
    """Share of pairs whose chosen response scores higher; a tie counts one half."""
    outcomes: list[float | None] = [
        None if chosen is None or rejected is None else (chosen > rejected) + 0.5 * (chosen == rejected)
        for chosen, rejected in pairs
    ]
    return stats.accuracy_metric(outcomes)


def ranked_stage(model: RewardModel, responses: Stage, reward: Stage) -> Stage:
    """The ranked dataset: `ranked.jsonl` (to train on) and `heldout.jsonl`, one `RankedExample` a line. `reward` is the
    stage that made `model` ready."""

    def body(ctx: Context) -> dict[str, Any]:
        groups = ctx.inputs["responses"].rows("responses.jsonl", ResponseGroup)
        rows = [(g.messages, r.text) for g in groups for r in g.responses]
        ctx.progress.start("scoring responses", len(rows))
        scores = iter(model.score(rows, ctx.inputs["reward"].folder, advance=ctx.progress.advance))
        ranked = [_rank(g, [next(scores) for _ in g.responses]) for g in groups]
        return _write_ranked(ctx, ranked, _ranked_report(ranked))

    return Stage("ranked", "ranked", 2, {}, {"responses": responses, "reward": reward}, body)


def own_pairs_stage(seeds: Stage) -> Stage:
    """The same two files as `ranked_stage`'s, of the seed's own pairs: the chosen answer above the rejected one, with
    the scores 1 and 0, which say no more than that order."""

    def body(ctx: Context) -> dict[str, Any]:
        pairs = [g for g in _given_responses(ctx, True) if g.responses[0].text != g.responses[1].text]
        ranked = [_rank(g, (1.0, 0.0)) for g in pairs]
        train = sum(e.split == "train" for e in ranked)
        report = {"train_prompts": train, "heldout_prompts": len(ranked) - train, "responses": 2 * train}
        return _write_ranked(ctx, ranked, report)

    return Stage("ranked", "ranked", 1, {"responses": "the seed's own"}, {"seeds": seeds}, body)


def _write_ranked(ctx: Context, ranked: Sequence[RankedExample], report: dict[str, Any]) -> dict[str, Any]:
    write_rows(ctx.folder / "ranked.jsonl", [e for e in ranked if e.split == "train"])
    write_rows(ctx.folder / "heldout.jsonl", [e for e in ranked if e.split == "heldout"])
    write_json(ctx.folder / "report.json", report)
    return report


def _rank(group: ResponseGroup, scores: Sequence[float | None]) -> RankedExample:
    """Best first; what was not scored stands last, with its score None."""
    scored = [r.model_copy(update={"score": s}) for r, s in zip(group.responses, scores, strict=True)]
    scored.sort(key=lambda r: -math.inf if r.score is None else r.score, reverse=True)
    return RankedExample(**{**dict(group), "responses": tuple(scored)})


def _ranked_report(ranked: Sequence[RankedExample]) -> dict[str, Any]:
    train = [e for e in ranked if e.split == "train"]
    spreads = [
        e.responses[0].score - e.responses[-1].score
        for e in train
        if e.responses[0].score is not None and e.responses[-1].score is not None
    ]
    firsts = Counter(e.responses[0].source for e in train)
    return {
        "train_prompts": len(train),
        "heldout_prompts": len(ranked) - len(train),
        "generated_prompts": sum(e.source == "generated" for e in train),
        "responses": sum(len(e.responses) for e in train),
        "not_scored": sum(r.score is None for e in ranked for r in e.responses),
        "mean_score_spread": sum(spreads) / len(spreads) if spreads else None,
        "ranked_first_by_source": dict(firsts),
    }
