"""The stage of the ranked dataset: all responses in the reward model's order, or only the seed's own pairs, as ranked
datasets of two responses per prompt."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.augmentation.admission import agreement, growth_with_n
from harness.components import identity
from harness.engine.journal import content_key
from harness.engine.stage import Context, Estimate, Stage
from harness.engine.store import write_json, write_rows
from harness.models.workload import loading, work
from harness.protocols import RewardModel
from harness.recipe.launch import Launch
from harness.recipe.sizes import Sizes
from harness.servers.addressed import engines_of
from harness.stages.responses import groups_to_fill, own_thoughts
from harness.stages.reward import make_scorer, score_journals
from harness.types import PreferencePair, RankedExample, Response, ResponseGroup


def ranked_stage(
    model: RewardModel, responses: Stage, reward: Stage, sizes: Sizes, launch: Launch | None = None
) -> Stage:
    """The ranked dataset: `ranked.jsonl` (to train on) and `heldout.jsonl`, one `RankedExample` per line. `reward`: the
    stage of `model`."""

    def body(ctx: Context) -> dict[str, Any]:
        groups = ctx.inputs["responses"].rows("responses.jsonl", ResponseGroup)
        rows = [(g.messages, r.text) for g in groups for r in g.responses]
        scorer = make_scorer(ctx, model, "reward", launch)
        ctx.progress.start("scoring responses", scorer.items(len(rows)))
        scores = scores_by_prompt(groups, scorer(rows))
        keys = {f"{role}_key": ctx.inputs[role].record.key for role in ("responses", "reward")}
        provenance = {"reward": identity(model)["name"], **keys}
        ranked = [rank(g, s).model_copy(update={"provenance": provenance}) for g, s in zip(groups, scores, strict=True)]
        return _write_ranked(ctx, ranked, _report(ranked))

    inputs = {"responses": responses, "reward": reward}
    inputs |= {name: stage for name, stage in reward.inputs.items() if name != "seeds"}

    def estimate() -> Estimate:
        tokens, models = sizes.scored_tokens, model.models_in_process()
        pool = content_key([reward.key, responses.estimate().pool])
        return Estimate(scored_tokens=tokens, work=work(models, tokens), waiting=loading(models), pool=pool)

    return Stage(
        "ranked",
        "ranked",
        4,
        {},
        inputs,
        body,
        estimate,
        exclusive=score_journals(model, reward),
        serves=responses.serves,
        engines=engines_of(model),
    )


def seed_pairs_stage(seeds: Stage) -> Stage:
    """The same two files as `ranked_stage` writes, of the seed's own pairs: the chosen answer above the rejected one,
    with scores 1 and 0, which stand for nothing but that order. Rows of a ranked dataset keep all their scored
    responses, and the scores."""

    def body(ctx: Context) -> dict[str, Any]:
        pairs = [g for g in groups_to_fill(ctx, True) if g.responses[0].text != g.responses[1].text]
        seeds = [
            row for file in ("train", "heldout") for row in ctx.inputs["seeds"].rows(f"{file}.jsonl", PreferencePair)
        ]
        rankings = {pair.id: pair.responses for pair in seeds if pair.responses}
        ranked = [_own_ranking(group, rankings.get(group.id, ())) for group in pairs]
        train = [e for e in ranked if e.split == "train"]
        report = {
            "train_prompts": len(train),
            "heldout_prompts": len(ranked) - len(train),
            "responses": sum(len(e.responses) for e in train),
        }
        return _write_ranked(ctx, ranked, report | own_thoughts(ctx, ranked))

    return Stage("ranked", "ranked", 2, {"responses": "the seed's own"}, {"seeds": seeds}, body)


def _own_ranking(group: ResponseGroup, responses: Sequence[Response]) -> RankedExample:
    """A seed prompt with its own answers: the pair's, or all `responses` of a row that ranks several."""
    if not responses:
        return rank(group, (1.0, 0.0))
    full = group.model_copy(update={"responses": tuple(responses)})
    return rank(full, [response.score for response in responses])


def scores_by_prompt(groups: Sequence[ResponseGroup], scores: Sequence[float | None]) -> list[list[float | None]]:
    """The scores of all responses, in order, as one list per prompt."""
    remaining = iter(scores)
    return [[next(remaining) for _ in group.responses] for group in groups]


def rank(group: ResponseGroup, scores: Sequence[float | None]) -> RankedExample:
    """Best first, equal ranks for equal scores; a response without a score stands last and has no rank."""
    scored = [r.model_copy(update={"score": s}) for r, s in zip(group.responses, scores, strict=True)]
    scored.sort(key=lambda r: -math.inf if r.score is None else r.score, reverse=True)
    above = [
        sum(other.score > r.score for other in scored if other.score is not None) for r in scored if r.score is not None
    ]
    ranks = [1 + n for n in above] + [None] * (len(scored) - len(above))
    responses = tuple(r.model_copy(update={"rank": n}) for r, n in zip(scored, ranks, strict=True))
    return RankedExample(**{**dict(group), "responses": responses})


def _write_ranked(ctx: Context, ranked: Sequence[RankedExample], report: dict[str, Any]) -> dict[str, Any]:
    write_rows(ctx.folder / "ranked.jsonl", [e for e in ranked if e.split == "train"])
    write_rows(ctx.folder / "heldout.jsonl", [e for e in ranked if e.split == "heldout"])
    write_json(ctx.folder / "report.json", report)
    return report


def _report(ranked: Sequence[RankedExample]) -> dict[str, Any]:
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
