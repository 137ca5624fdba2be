"""The stage that compares reward models: the one that ranks, those that it is made from, and others that the recipe
names for comparison only. Nothing is trained on it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from harness.admission import agreement
from harness.components import identity
from harness.protocols import RewardModel
from harness.rank import grouped, make_scorer, parts_of, reward_stage, score_journals
from harness.recipe import Recipe
from harness.scores import Scorer
from harness.stages import Context, Stage
from harness.types import RankedExample


def comparison_stages(recipe: Recipe, reward: RewardModel, data: Mapping[str, Stage]) -> dict[str, Stage]:
    """Stages by name: `other/0` and so on, which make the `other_rewards` ready (and admit them), what those are made
    from, and `agreement`. None where there is nothing to compare."""
    others = recipe.data.other_rewards
    if not others and not parts_of(reward):
        return {}
    found: dict[str, Stage] = {}
    for i, other in enumerate(others):
        stage = reward_stage(recipe, data["seeds"], other, f"other/{i}")
        found |= {name: needed for name, needed in stage.inputs.items() if name != "seeds"}
        found[f"other/{i}"] = stage
    found["agreement"] = _agreement_stage(reward, others, data, found)
    return found


def _agreement_stage(
    reward: RewardModel, others: Sequence[RewardModel], data: Mapping[str, Stage], compared: Mapping[str, Stage]
) -> Stage:
    """Its report: `models` (`name`, told apart by a number where several have one, and how many responses were
    `not_scored`), and `pairs` of them with Kendall's `tau`-b within prompts, training and held-out ones."""

    def body(ctx: Context) -> dict[str, Any]:
        ranked = ctx.inputs["ranked"]
        examples = [e for file in ("ranked.jsonl", "heldout.jsonl") for e in ranked.rows(file, RankedExample)]
        rows = [(e.messages, r.text) for e in examples for r in e.responses]
        scores = [[[r.score for r in e.responses] for e in examples]]
        models: list[RewardModel] = [reward]
        tops = [make_scorer(ctx, other, f"other/{i}") for i, other in enumerate(others)]
        for scorer in (*_below(make_scorer(ctx, reward, "reward")), *(s for top in tops for s in (top, *_below(top)))):
            models.append(scorer.model)
            ctx.progress.start(f"scoring responses by {identity(scorer.model)['name']}", scorer.items(len(rows)))
            scores.append(grouped(examples, scorer(rows)))
        names = _told_apart([identity(model)["name"] for model in models])
        return {
            "models": [
                {"name": name, "not_scored": sum(s is None for group in theirs for s in group)}
                for name, theirs in zip(names, scores, strict=True)
            ],
            "pairs": [
                {"first": a, "second": b, "tau": agreement(one, other).model_dump(mode="json")}
                for (a, one), (b, other) in combinations(zip(names, scores, strict=True), 2)
            ],
        }

    needed = {name: stage for name, stage in data["reward"].inputs.items() if name != "seeds"}
    inputs = {"ranked": data["ranked"], "reward": data["reward"]} | needed | dict(compared)
    exclusive = score_journals(reward, data["reward"])
    for i, other in enumerate(others):
        exclusive |= score_journals(other, compared[f"other/{i}"])
    return Stage("agreement", "agreement", 1, {}, inputs, body, exclusive=exclusive, serves=data["ranked"].serves)


def _below(scorer: Scorer) -> Iterator[Scorer]:
    """All that a reward model is made from, however deep."""
    for part in scorer.parts:
        yield part
        yield from _below(part)


def _told_apart(names: Sequence[str]) -> list[str]:
    """`trained 1`, `trained 2` where there are several, in order."""
    many, seen = Counter(names), Counter[str]()
    told = []
    for name in names:
        seen[name] += 1
        told.append(f"{name} {seen[name]}" if many[name] > 1 else name)
    return told
