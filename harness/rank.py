"""The stages of the reward model and of the ranked dataset, which may also be only the seed's own pairs: a ranked
dataset of two responses a prompt."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.admission import agreement, batch_invariance, growth_with_n, pair_figures
from harness.components import identity
from harness.journal import content_key
from harness.judge_costs import journal_name, judges_of
from harness.protocols import RewardModel
from harness.recipe import Recipe
from harness.responses import expected_seed_prompts, given_responses, pair_tokens, scored_tokens
from harness.scores import Scorer
from harness.stages import Context, Estimate, Stage, derived_seed
from harness.store import write_json, write_rows
from harness.types import PreferencePair, RankedExample, ResponseGroup
from harness.workload import TRAINING, loading, models_in, work


def reward_stage(recipe: Recipe, seeds: Stage, reward: RewardModel, role: str = "reward") -> Stage:
    """The reward model, trained where it is of a kind that is, and admitted: the report has what `harness.admission`
    finds on the held-out pairs. Reward models that it is made from are stages of their own, and inputs of this one."""
    seed = derived_seed(recipe.seed, "reward")
    parts = [reward_stage(recipe, seeds, part, f"{role}/part/{i}") for i, part in enumerate(parts_of(reward))]

    def body(ctx: Context) -> dict[str, Any]:
        train = ctx.inputs["seeds"].rows("train.jsonl", PreferencePair)
        heldout = ctx.inputs["seeds"].rows("heldout.jsonl", PreferencePair)
        ctx.progress.start("training the reward model", None)
        report = reward.fit(train, ctx.folder, seed=seed, advance=ctx.progress.advance)
        rows = [(p.messages, text) for p in heldout for text in (p.chosen, p.rejected)]
        scorer = make_scorer(ctx, reward, role, ctx.folder, ctx.key)
        ctx.progress.start("is the reward model's score one of the batch", None)
        invariance = batch_invariance(reward, scorer.ready, rows)
        ctx.progress.start("reward model on held-out pairs", scorer.items(len(rows)))
        scores = scorer(rows)
        pairs = list(zip(scores[::2], scores[1::2], strict=True))
        figures = pair_figures([(p.chosen, p.rejected) for p in heldout], pairs)
        if (high := (figures["accuracy"]["ci95"] or (0, 1))[1]) < 0.5:
            ctx.log.warning("the reward model orders held-out pairs worse than chance (at most %.3f)", high)
        admission = {**figures, "batch": invariance}
        name = identity(reward)["name"]
        return {"name": name, "training": report, "heldout_accuracy": figures["accuracy"], "admission": admission}

    params = {"reward": identity(reward), "seed": seed}
    inputs = {"seeds": seeds} | {f"{role}/part/{i}": part for i, part in enumerate(parts)}
    for part in parts:
        inputs |= {name: stage for name, stage in part.inputs.items() if name != "seeds"}

    def estimate() -> Estimate:
        train, heldout = expected_seed_prompts(recipe)
        loaded = [] if parts else models_in(reward)
        size = 2 * pair_tokens(recipe)
        trained = round(train * size * getattr(reward, "epochs", 1)) if getattr(reward, "is_trained", False) else 0
        computed = work(loaded, trained, TRAINING, 6) + work(loaded, heldout * size)
        return Estimate(trained_tokens=trained, scored_tokens=heldout * size, work=computed, waiting=loading(loaded))

    added = frozenset(name for part in parts for name in score_journals(reward, part))
    return Stage(role, "reward", 4, params, inputs, body, estimate, exclusive=added | _judge_journals(reward))


def score_journals(reward: RewardModel, ready: Stage) -> frozenset[str]:
    """Names of the journals that scoring with a reward model adds to; `ready`: the stage that made it so."""
    scored = [ready, *(stage for role, stage in ready.inputs.items() if role != "seeds")]
    return frozenset(f"scores/{stage.key}" for stage in scored) | _judge_journals(reward)


def _judge_journals(reward: RewardModel) -> frozenset[str]:
    return frozenset(f"{journal_name(judge)}/reward" for judge in judges_of(reward))


def parts_of(reward: object) -> Sequence[RewardModel]:
    """The reward models that one is made from."""
    found: Sequence[RewardModel] = getattr(reward, "parts", ())
    return found


def make_scorer(
    ctx: Context, reward: RewardModel, role: str, folder: Path | None = None, key: str | None = None
) -> Scorer:
    """The scorer of a reward model that is an input of the stage, or (by `folder` and `key`) the stage itself."""
    parts = [make_scorer(ctx, part, f"{role}/part/{i}") for i, part in enumerate(parts_of(reward))]
    if folder is None or key is None:
        folder, key = ctx.inputs[role].folder, ctx.inputs[role].record.key
    return Scorer(
        reward,
        folder,
        key=key,
        journals=ctx.store.journals,
        advance=ctx.progress.advance,
        parts=parts,
        spending=ctx.spending,
    )


def ranked_stage(recipe: Recipe, model: RewardModel, responses: Stage, reward: Stage) -> Stage:
    """The ranked dataset: `ranked.jsonl` (to train on) and `heldout.jsonl`, one `RankedExample` a line. `reward` is the
    stage that made `model` ready."""

    def body(ctx: Context) -> dict[str, Any]:
        groups = ctx.inputs["responses"].rows("responses.jsonl", ResponseGroup)
        rows = [(g.messages, r.text) for g in groups for r in g.responses]
        scorer = make_scorer(ctx, model, "reward")
        ctx.progress.start("scoring responses", scorer.items(len(rows)))
        scores = grouped(groups, scorer(rows))
        keys = {f"{role}_key": ctx.inputs[role].record.key for role in ("responses", "reward")}
        provenance = {"reward": identity(model)["name"], **keys}
        ranked = [
            _rank(g, s).model_copy(update={"provenance": provenance}) for g, s in zip(groups, scores, strict=True)
        ]
        return _write_ranked(ctx, ranked, _ranked_report(ranked))

    inputs = {"responses": responses, "reward": reward}
    inputs |= {name: stage for name, stage in reward.inputs.items() if name != "seeds"}

    def estimate() -> Estimate:
        tokens, loaded = scored_tokens(recipe), models_in(model)
        pool = content_key([reward.key, responses.estimate().pool])
        return Estimate(scored_tokens=tokens, work=work(loaded, tokens), waiting=loading(loaded), pool=pool)

    exclusive = score_journals(model, reward)
    return Stage("ranked", "ranked", 4, {}, inputs, body, estimate, exclusive=exclusive, serves=responses.serves)


def grouped(groups: Sequence[ResponseGroup], scores: Sequence[float | None]) -> list[list[float | None]]:
    """Scores of all responses, by prompt."""
    left = iter(scores)
    return [[next(left) for _ in group.responses] for group in groups]


def own_pairs_stage(seeds: Stage) -> Stage:
    """The same two files as `ranked_stage`'s, of the seed's own pairs: the chosen answer above the rejected one, with
    the scores 1 and 0, which say no more than that order."""

    def body(ctx: Context) -> dict[str, Any]:
        pairs = [g for g in given_responses(ctx, True) if g.responses[0].text != g.responses[1].text]
        ranked = [_rank(g, (1.0, 0.0)) for g in pairs]
        train = sum(e.split == "train" for e in ranked)
        report = {"train_prompts": train, "heldout_prompts": len(ranked) - train, "responses": 2 * train}
        return _write_ranked(ctx, ranked, report)

    return Stage("ranked", "ranked", 2, {"responses": "the seed's own"}, {"seeds": seeds}, body)


def _write_ranked(ctx: Context, ranked: Sequence[RankedExample], report: dict[str, Any]) -> dict[str, Any]:
    write_rows(ctx.folder / "ranked.jsonl", [e for e in ranked if e.split == "train"])
    write_rows(ctx.folder / "heldout.jsonl", [e for e in ranked if e.split == "heldout"])
    write_json(ctx.folder / "report.json", report)
    return report


def _rank(group: ResponseGroup, scores: Sequence[float | None]) -> RankedExample:
    """Best first; what was not scored stands last, with its score None."""
    scored = [r.model_copy(update={"score": s}) for r, s in zip(group.responses, scores, strict=True)]
    scored.sort(key=lambda r: -math.inf if r.score is None else r.score, reverse=True)
    above = [
        sum(other.score > r.score for other in scored if other.score is not None) for r in scored if r.score is not None
    ]
    ranks = [1 + n for n in above] + [None] * (len(scored) - len(above))
    placed = [r.model_copy(update={"rank": rank}) for r, rank in zip(scored, ranks, strict=True)]
    return RankedExample(**{**dict(group), "responses": tuple(placed)})


def _ranked_report(ranked: Sequence[RankedExample]) -> dict[str, Any]:
    """Counts; `score_and_length`: Kendall's tau-b of score and characters within prompts; and `growth_with_n`."""
    train = [e for e in ranked if e.split == "train"]
    spreads = [
        e.responses[0].score - e.responses[-1].score
        for e in train
        if e.responses[0].score is not None and e.responses[-1].score is not None
    ]
    scores = [[r.score for r in e.responses] for e in train]
    scored = [[s for s in group if s is not None] for group in scores]
    lengths = [[float(len(r.text)) for r in e.responses] for e in train]
    firsts = Counter(e.responses[0].source for e in train)
    return {
        "train_prompts": len(train),
        "heldout_prompts": len(ranked) - len(train),
        "generated_prompts": sum(e.source == "generated" for e in train),
        "responses": sum(len(e.responses) for e in train),
        "not_scored": sum(r.score is None for e in ranked for r in e.responses),
        "mean_score_spread": sum(spreads) / len(spreads) if spreads else None,
        "ranked_first_by_source": dict(firsts),
        "tied_responses": sum(len(s) - len(set(s)) for s in scored),
        "score_and_length": agreement(scores, lengths).model_dump(mode="json"),
        "growth_with_n": growth_with_n(scores),
    }
