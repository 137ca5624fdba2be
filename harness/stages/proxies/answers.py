"""The stage that scores a row's answers by the known truth and by its proxy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from harness.augmentation.answers.turns import Turn, answered
from harness.benchmark import Benchmark
from harness.engine.stage import Context, Stage
from harness.engine.store import write_json
from harness.figures import GOLD_REWARD, PROXY_REWARD
from harness.protocols import RewardModel
from harness.recipe.launch import Launch
from harness.servers.addressed import engines_of
from harness.stages._metrics import by_prompt, write_metrics
from harness.stages.proxies.samples import ROLE, scorer_inputs
from harness.stages.responses import spreads_of
from harness.stages.reward import score_journals, scored
from harness.stats.intervals import mean_metric
from harness.types import Answer

Scores = dict[str, float | None]
"""By benchmark and question: `alpaca_eval:ID`."""


@dataclass(frozen=True)
class Rewards:
    """The known truth and its proxy, with their stages. `proxy` None: the data has no reward model of its own."""

    gold: RewardModel
    gold_stage: Stage
    proxy: RewardModel | None = None
    proxy_stage: Stage | None = None

    @property
    def models(self) -> list[tuple[RewardModel, str, Stage]]:
        """(reward model, role, stage)"""
        given = [(self.gold, ROLE, self.gold_stage)]
        return given + ([(self.proxy, "reward", self.proxy_stage)] if self.proxy and self.proxy_stage else [])


def rewards_stage(
    row: str,
    rewards: Rewards,
    benchmarks: Sequence[Benchmark],
    answers: Mapping[str, Stage],
    base: Mapping[str, Stage],
    launch: Launch | None,
) -> Stage | None:
    """The scores of a row's answers: `outcomes.json`, `metrics.json`. Each turn of a conversation is scored with the
    turns before it in view; a prompt's outcome is the mean over its turns (`by_prompt`). `answers`, `base`: by
    benchmark, the row's and the untrained policy's. The report has the row's gains over base (`gains_over`). None where
    there is nothing to score: no answers, or none of base to compare with."""
    asked = [b for b in benchmarks if b.name in answers and b.name in base]
    if not asked:
        return None

    def body(ctx: Context) -> dict[str, Any]:
        mine, bases = (_conversations(ctx, of, asked) for of in ("answers", "base"))
        rows = [(turn.messages, turn.text) for _, turns in (*mine, *bases) for turn in turns]
        scores: dict[str, tuple[Scores, Scores]] = {}
        for model, role, _ in rewards.models:
            values = iter(scored(ctx, model, role, launch, rows, f"{role.replace('_', ' ')} of {row}"))
            of_row, of_base = (
                by_prompt([(key, [next(values) for _ in turns]) for key, turns in of]) for of in (mine, bases)
            )
            scores[role] = of_row, of_base
        return _written(ctx, scores)

    inputs = {f"answers/{b.name}": answers[b.name] for b in asked} | {f"base/{b.name}": base[b.name] for b in asked}
    for _, role, stage in rewards.models:
        inputs |= scorer_inputs(role, stage)
    journals = [score_journals(model, stage) for model, _, stage in rewards.models]
    return Stage(
        f"rewards/{row}",
        "rewards",
        1,
        {"turns": "each"} if any(b.has_turns for b in asked) else {},
        inputs,
        body,
        exclusive=frozenset[str]().union(*journals),
        spreads=spreads_of(*(model for model, _, _ in rewards.models)),
        engines=engines_of(*(model for model, _, _ in rewards.models)),
    )


def _conversations(ctx: Context, of: str, benchmarks: Sequence[Benchmark]) -> list[tuple[str, tuple[Turn, ...]]]:
    """(`BENCHMARK:QUESTION`, the turns) of each answer."""
    return [
        (f"{benchmark.name}:{one.prompt}", one.turns)
        for benchmark in benchmarks
        for one in answered(
            benchmark.load_questions(), ctx.inputs[f"{of}/{benchmark.name}"].rows("answers.jsonl", Answer)
        )
    ]


def _written(ctx: Context, scores: Mapping[str, tuple[Scores, Scores]]) -> dict[str, Any]:
    gold, base_gold = scores[ROLE]
    outcomes, of_base = {GOLD_REWARD.benchmark: gold}, {GOLD_REWARD.benchmark: base_gold}
    metrics = {GOLD_REWARD.metric: mean_metric(list(gold.values()))}
    if "reward" in scores:
        proxy, base_proxy = scores["reward"]
        outcomes[PROXY_REWARD.benchmark] = standardised(proxy, base_proxy)
        of_base[PROXY_REWARD.benchmark] = standardised(base_proxy, base_proxy)
        metrics[PROXY_REWARD.metric] = mean_metric(list(outcomes[PROXY_REWARD.benchmark].values()))
    write_json(ctx.folder / "outcomes.json", outcomes)
    write_metrics(ctx, metrics)
    return {"prompts": len(gold), **gains_over(outcomes, of_base)}


def standardised(scores: Scores, base: Scores) -> Scores:
    """The scores from the mean of base's, in standard deviations (n - 1) of base's; None for all where those are all
    equal, or fewer than two."""
    values = [score for score in base.values() if score is not None]
    sd = stdev(values) if len(values) > 1 else 0.0
    if not sd:
        return dict.fromkeys(scores)
    mean = fmean(values)
    return {key: None if score is None else (score - mean) / sd for key, score in scores.items()}


def gains_over(outcomes: Mapping[str, Scores], base: Mapping[str, Scores]) -> dict[str, Any]:
    """A row's `gold_gain` and `proxy_gain` over base, prompt by prompt, as metrics in plain data, and whether it is
    `overoptimised`: the proxy's score rose and gold's fell, both significantly; None where that can't be told: no
    proxy, or too few prompts for an interval. The arguments: as in `outcomes.json` of the two rows."""
    names = {"gold_gain": GOLD_REWARD.benchmark, "proxy_gain": PROXY_REWARD.benchmark}
    gains = {
        gain: mean_metric(_differences(outcomes[name], base[name])) for gain, name in names.items() if name in outcomes
    }
    gold, proxy = gains["gold_gain"].ci95, gains["proxy_gain"].ci95 if "proxy_gain" in gains else None
    is_overoptimised = gold[1] < 0 < proxy[0] if gold and proxy else None
    return {**{k: gain.model_dump(mode="json") for k, gain in gains.items()}, "overoptimised": is_overoptimised}


def _differences(scores: Scores, base: Scores) -> list[float | None]:
    """Prompt by prompt; None where one of the two was not scored."""
    pairs = [(score, base.get(key)) for key, score in scores.items()]
    return [None if score is None or other is None else score - other for score, other in pairs]
