"""The stage of the ranked dataset: all responses in the reward model's order, or only the seed's own pairs, as ranked
datasets of two responses per prompt."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from harness.augmentation.admission import growth_with_n, tau
from harness.augmentation.responding import OwnThoughts
from harness.components import identity
from harness.engine.journal import content_key
from harness.engine.shards.spool import Shard, dealt
from harness.engine.stage import Context, Estimate, Stage
from harness.engine.store import line_of, write_json
from harness.models.demand.loads import loading
from harness.models.demand.parts import scoring
from harness.protocols import RewardModel
from harness.recipe.launch import Launch
from harness.recipe.sizes import Sizes
from harness.servers.addressed import engines_of
from harness.stages.responses import groups_to_fill, spreads_of
from harness.stages.reward import make_scorer, score_journals, sends_batches
from harness.stats.intervals import mean_metric
from harness.types import PreferencePair, RankedExample, Response, ResponseGroup

SEEDS_OWN = "the seed's own"
"""The parameter `responses` of a stage whose scores stand for nothing but the order of a pair."""


def ranked_stage(
    model: RewardModel, responses: Stage, reward: Stage, sizes: Sizes, launch: Launch | None = None
) -> Stage:
    """The ranked dataset: `ranked.jsonl` (to train on) and `heldout.jsonl`, one `RankedExample` per line. `reward`: the
    stage of `model`."""

    def body(ctx: Context) -> dict[str, Any]:
        responses = ctx.inputs["responses"]
        groups = responses.stream("responses.jsonl", ResponseGroup)
        rows = ((group.id, group) for group in groups)
        with dealt(rows, ctx.folder, ctx.worker_count, together=sends_batches(model)) as prompts:
            items = make_scorer(ctx, model, "reward", launch).items(responses.report["responses"])
            ctx.progress.start("scoring responses", items)
            ctx.spread(partial(_score, model, launch), prompts.shards)
            report = RankedReport()
            _write_ranked(ctx, report.noting(prompts.results(RankedExample)))
        write_json(ctx.folder / "report.json", report.counts)
        return report.counts

    inputs = {"responses": responses, "reward": reward}
    inputs |= {name: stage for name, stage in reward.inputs.items() if name != "seeds"}

    def estimate() -> Estimate:
        tokens, models = sizes.scored_tokens, model.models_in_process()
        pool = content_key([reward.key, responses.estimate().pool])
        shared = launch.accelerate.processes if launch and model.batch_rows else 1
        loads = scoring(model, tokens, sizes.longest_row, model.batch_rows or 1, shared)
        return Estimate(scored_tokens=tokens, loads=loads, waiting=loading(models), pool=pool)

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
        spreads=spreads_of(model),
        engines=engines_of(model),
    )


def _score(model: RewardModel, launch: Launch | None, ctx: Context, shard: Shard) -> None:
    """Score and rank a shard's groups; the results are `RankedExample`."""
    groups = list(shard.rows(ResponseGroup))
    scorer = make_scorer(ctx, model, "reward", launch)
    scores = scores_by_prompt(groups, scorer([(g.messages, r.text) for g in groups for r in g.responses]))
    keys = {f"{role}_key": ctx.inputs[role].record.key for role in ("responses", "reward")}
    provenance = {"reward": identity(model)["name"], **keys}
    ranked = (rank(group, row) for group, row in zip(groups, scores, strict=True))
    shard.write(example.model_copy(update={"provenance": provenance}) for example in ranked)


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
        own = OwnThoughts()
        for example in ranked:
            own.note(example)
        report |= own.report(ctx)
        _write_ranked(ctx, ranked)
        write_json(ctx.folder / "report.json", report)
        return report

    return Stage("ranked", "ranked", 2, {"responses": SEEDS_OWN}, {"seeds": seeds}, body)


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


def _write_ranked(ctx: Context, ranked: Iterable[RankedExample]) -> None:
    names = {"train": "ranked.jsonl", "heldout": "heldout.jsonl"}
    with ExitStack() as stack:
        files = {split: stack.enter_context((ctx.folder / name).open("wb")) for split, name in names.items()}
        for example in ranked:
            files[example.split].write(line_of(example))


class RankedReport:
    """The report of a stage, of examples as they pass by: numbers alone are held in memory."""

    def __init__(self) -> None:
        self._train = self._heldout = self._generated = self._responses = self._not_scored = self._tied = 0
        self._spreads, self._taus, self._firsts = list[float](), list[float | None](), Counter[str]()
        self._scores: list[tuple[float | None, ...]] = []

    def noting(self, ranked: Iterable[RankedExample]) -> Iterator[RankedExample]:
        for example in ranked:
            self._note(example)
            yield example

    def _note(self, example: RankedExample) -> None:
        scores = tuple(r.score for r in example.responses)
        self._not_scored += scores.count(None)
        if example.split != "train":
            self._heldout += 1
            return
        self._train += 1
        self._generated += example.source == "generated"
        self._responses += len(scores)
        if scores[0] is not None and scores[-1] is not None:
            self._spreads.append(scores[0] - scores[-1])
        scored = [s for s in scores if s is not None]
        self._tied += len(scored) - len(set(scored))
        self._firsts[example.responses[0].source] += 1
        self._taus.append(tau(scores, [float(len(r.text)) for r in example.responses]))
        self._scores.append(scores)

    @property
    def counts(self) -> dict[str, Any]:
        """Counts; `score_and_length`: Kendall's tau-b of score and characters within prompts; and `growth_with_n`."""
        return {
            "train_prompts": self._train,
            "heldout_prompts": self._heldout,
            "generated_prompts": self._generated,
            "responses": self._responses,
            "not_scored": self._not_scored,
            "mean_score_spread": sum(self._spreads) / len(self._spreads) if self._spreads else None,
            "ranked_first_by_source": dict(self._firsts),
            "tied_responses": self._tied,
            "score_and_length": mean_metric(self._taus, limits=(-1.0, 1.0)).model_dump(mode="json"),
            "growth_with_n": growth_with_n(self._scores),
        }
