"""The stages of the known truth on the data: its own, and the one that holds the scores of the data's responses against
it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.augmentation.admission import agreement
from harness.engine.stage import Context, Stage
from harness.protocols import RewardModel
from harness.recipe.launch import Launch
from harness.recipe.sizes import Sizes
from harness.servers.addressed import engines_of
from harness.stages.ranked import scores_by_prompt
from harness.stages.responses import spreads_of
from harness.stages.reward import reward_stage, score_journals, scored
from harness.stats.intervals import mean_metric
from harness.types import RankedExample

ROLE = "gold_reward"
"""The truth's name among the inputs of stages."""


def gold_stages(
    gold: RewardModel, data: Mapping[str, Stage], seed: int, sizes: Sizes, launch: Launch | None
) -> dict[str, Stage]:
    """Stages by name: those of `gold`, and `best_of_n`. `data`: the stages `seeds` and `ranked`."""
    stage = reward_stage(gold, data["seeds"], seed, sizes, ROLE, launch)
    parts = {name: part for name, part in stage.inputs.items() if name != "seeds"}
    return {**parts, ROLE: stage, "best_of_n": _best_of_n_stage(gold, data["ranked"], stage, launch)}


def scorer_inputs(role: str, stage: Stage) -> dict[str, Stage]:
    """The inputs of a stage that scores with the reward model of `stage`."""
    return {role: stage, **{name: part for name, part in stage.inputs.items() if name != "seeds"}}


def _best_of_n_stage(gold: RewardModel, ranked: Stage, ready: Stage, launch: Launch | None) -> Stage:
    """Its report: Kendall's `tau`-b within prompts of the scores that rank the data and gold's, and `best_of_n` (see
    `best_of`), over training and held-out prompts."""

    def body(ctx: Context) -> dict[str, Any]:
        data = ctx.inputs["ranked"]
        examples = [e for file in ("ranked.jsonl", "heldout.jsonl") for e in data.rows(file, RankedExample)]
        rows = [(e.messages, r.text) for e in examples for r in e.responses]
        golds = scores_by_prompt(examples, scored(ctx, gold, ROLE, launch, rows, "gold scores of the data"))
        proxies = [[r.score for r in e.responses] for e in examples]
        return {
            "gold_not_scored": sum(score is None for group in golds for score in group),
            "tau": agreement(proxies, golds).model_dump(mode="json"),
            "best_of_n": best_of(proxies, golds),
        }

    return Stage(
        "best_of_n",
        "best_of_n",
        1,
        {},
        {"ranked": ranked, **scorer_inputs(ROLE, ready)},
        body,
        exclusive=score_journals(gold, ready),
        serves=ranked.serves,
        spreads=spreads_of(gold),
        engines=engines_of(gold),
    )


class _Group(NamedTuple):
    """A prompt's responses: gold's scores in the order of the proxy's, the worst first; and gold's own order."""

    by_proxy: list[float]
    by_gold: list[float]


def best_of(proxies: Sequence[Sequence[float | None]], golds: Sequence[Sequence[float | None]]) -> list[dict[str, Any]]:
    """For n = 1 .. N the expected gold score of the response that the proxy likes best among n of a prompt's N, drawn
    without replacement, averaged over the prompts with all N scored by both (`gold`, with its interval); the same where
    gold itself chooses (`ceiling`); and `kl`, which bounds the divergence of such a policy from the one that wrote the
    responses: log n - (n - 1) / n nats (2009.01325). Among responses that the proxy scores equally, one is drawn.

    The best of n of N sorted responses is the i-th, counted from 0, with probability C(i, n - 1) / C(N, n).
    """
    most = max(map(len, proxies), default=0)
    groups = []
    for proxy, gold in zip(proxies, golds, strict=True):
        both = [(p, g) for p, g in zip(proxy, gold, strict=True) if p is not None and g is not None]
        if len(both) == most > 1:
            levels: dict[float, list[float]] = {}
            for p, g in both:
                levels.setdefault(p, []).append(g)
            drawn = [sum(levels[p]) / len(levels[p]) for p, _ in sorted(both)]
            groups.append(_Group(drawn, sorted(g for _, g in both)))
    rows = []
    for n in range(1, most + 1) if groups else ():
        weights = [math.comb(i, n - 1) / math.comb(most, n) for i in range(most)]
        chosen = mean_metric([_weighted(group.by_proxy, weights) for group in groups])
        ceiling = sum(_weighted(group.by_gold, weights) for group in groups) / len(groups)
        kl = math.log(n) - (n - 1) / n
        rows.append({"n": n, "kl": kl, "gold": chosen.model_dump(mode="json"), "ceiling": ceiling})
    return rows


def _weighted(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True))
