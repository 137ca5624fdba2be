"""The stages of the reward model and of the ranked dataset, which may also be only the seed's own pairs: a ranked
dataset of two responses a prompt."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness import stats
from harness.components import identity
from harness.protocols import RewardModel
from harness.recipe import Recipe
from harness.responses import given_responses
from harness.scores import Scorer
from harness.stages import Context, Stage, derived_seed
from harness.store import write_json, write_rows
from harness.types import Metric, PreferencePair, RankedExample, ResponseGroup


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
        score = Scorer(reward, ctx.folder, key=ctx.key, journals=ctx.store.journals, advance=ctx.progress.advance)
        scores = score(rows)
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
        ready = ctx.inputs["reward"]
        score = Scorer(
            model, ready.folder, key=ready.record.key, journals=ctx.store.journals, advance=ctx.progress.advance
        )
        scores = iter(score(rows))
        ranked = [_rank(g, [next(scores) for _ in g.responses]) for g in groups]
        return _write_ranked(ctx, ranked, _ranked_report(ranked))

    return Stage("ranked", "ranked", 2, {}, {"responses": responses, "reward": reward}, body)


def own_pairs_stage(seeds: Stage) -> Stage:
    """The same two files as `ranked_stage`'s, of the seed's own pairs: the chosen answer above the rejected one, with
    the scores 1 and 0, which say no more than that order."""

    def body(ctx: Context) -> dict[str, Any]:
        pairs = [g for g in given_responses(ctx, True) if g.responses[0].text != g.responses[1].text]
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
