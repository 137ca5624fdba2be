"""The stage that scores a row's answers by the known truth and by its proxy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from harness.benchmark import Benchmark
from harness.engine.stage import Context, Stage
from harness.engine.store import write_json
from harness.figures import GOLD_REWARD, PROXY_REWARD
from harness.protocols import RewardModel
from harness.recipe.launch import Launch
from harness.servers.addressed import engines_of
from harness.stages._metrics import write_metrics
from harness.stages.proxies.samples import ROLE, scorer_inputs
from harness.stages.reward import make_scorer, score_journals
from harness.stats.intervals import mean_metric
from harness.types import Answer, Message, Messages, Metric

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
    """The scores of a row's first answers: `outcomes.json`, `metrics.json`. `answers`, `base`: by benchmark, the row's
    and the untrained policy's. The report has the row's `gold_gain` and `proxy_gain` over base, prompt by prompt, and
    whether it is `overoptimised`: the proxy's score rose and gold's fell, both significantly. None where there is
    nothing to score: no answers, or none of base to compare with."""
    scored = [b for b in benchmarks if b.name in answers and b.name in base]
    if not scored:
        return None

    def body(ctx: Context) -> dict[str, Any]:
        mine, bases = (_rows(ctx, of, scored) for of in ("answers", "base"))
        scores: dict[str, tuple[Scores, Scores]] = {}
        for model, role, _ in rewards.models:
            scorer = make_scorer(ctx, model, role, launch)
            ctx.progress.start(f"{role.replace('_', ' ')} of {row}", scorer.items(len(mine) + len(bases)))
            values = scorer([*mine.values(), *bases.values()])
            of_row, of_base = values[: len(mine)], values[len(mine) :]
            scores[role] = dict(zip(mine, of_row, strict=True)), dict(zip(bases, of_base, strict=True))
        return _written(ctx, scores)

    inputs = {f"answers/{b.name}": answers[b.name] for b in scored} | {f"base/{b.name}": base[b.name] for b in scored}
    for _, role, stage in rewards.models:
        inputs |= scorer_inputs(role, stage)
    journals = [score_journals(model, stage) for model, _, stage in rewards.models]
    return Stage(
        f"rewards/{row}",
        "rewards",
        1,
        {},
        inputs,
        body,
        exclusive=frozenset[str]().union(*journals),
        engines=engines_of(*(model for model, _, _ in rewards.models)),
    )


def _rows(ctx: Context, of: str, benchmarks: Sequence[Benchmark]) -> dict[str, tuple[Messages, str]]:
    """(prompt, first answer) by benchmark and question."""
    rows: dict[str, tuple[Messages, str]] = {}
    for benchmark in benchmarks:
        prompts = {
            q.id: (*q.history, Message(role="user", content=q.turns[0]))
            for q in benchmark.load_questions()
            if not q.scored
        }
        for answer in ctx.inputs[f"{of}/{benchmark.name}"].rows("answers.jsonl", Answer):
            if answer.question_id in prompts and answer.turns:
                rows[f"{benchmark.name}:{answer.question_id}"] = prompts[answer.question_id], answer.turns[0]
    return rows


def _written(ctx: Context, scores: Mapping[str, tuple[Scores, Scores]]) -> dict[str, Any]:
    gold, base_gold = scores[ROLE]
    outcomes = {GOLD_REWARD.benchmark: gold}
    metrics = {GOLD_REWARD.metric: mean_metric(list(gold.values()))}
    gains = {"gold_gain": mean_metric(_differences(gold, base_gold))}
    if "reward" in scores:
        proxy = standardised(*scores["reward"])
        outcomes[PROXY_REWARD.benchmark] = proxy
        metrics[PROXY_REWARD.metric] = mean_metric(list(proxy.values()))
        gains["proxy_gain"] = mean_metric(_differences(proxy, standardised(scores["reward"][1], scores["reward"][1])))
    write_json(ctx.folder / "outcomes.json", outcomes)
    write_metrics(ctx, metrics)
    report: dict[str, Any] = {name: gain.model_dump(mode="json") for name, gain in gains.items()}
    return {"prompts": len(gold), **report, "overoptimised": _overoptimised(gains)}


def standardised(scores: Scores, base: Scores) -> Scores:
    """The scores from the mean of base's, in standard deviations (n - 1) of base's; None for all where those are all
    equal, or fewer than two."""
    values = [score for score in base.values() if score is not None]
    sd = stdev(values) if len(values) > 1 else 0.0
    if not sd:
        return dict.fromkeys(scores)
    mean = fmean(values)
    return {key: None if score is None else (score - mean) / sd for key, score in scores.items()}


def _differences(scores: Scores, base: Scores) -> list[float | None]:
    """Prompt by prompt; None where one of the two was not scored."""
    pairs = [(score, base.get(key)) for key, score in scores.items()]
    return [None if score is None or other is None else score - other for score, other in pairs]


def _overoptimised(gains: Mapping[str, Metric]) -> bool | None:
    """None where it can't be told: no proxy, or too few prompts for an interval."""
    gold, proxy = gains["gold_gain"].ci95, gains["proxy_gain"].ci95 if "proxy_gain" in gains else None
    return gold[1] < 0 < proxy[0] if gold and proxy else None
