"""The stage that compares reward models: the one that ranks, those it is composed of, and others that the recipe names
for comparison only. Nothing is trained on it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from harness.augmentation.admission import agreement
from harness.components import identity
from harness.engine.stage import Context, Stage
from harness.protocols import RewardModel
from harness.recipe.launch import Launch
from harness.recipe.sizes import Sizes
from harness.servers.addressed import engines_of
from harness.stages.ranked import scores_by_prompt
from harness.stages.responses import spreads_of
from harness.stages.reward import reward_stage, score_journals, scored
from harness.types import RankedExample


def comparison_stages(
    reward: RewardModel,
    others: Sequence[RewardModel],
    data: Mapping[str, Stage],
    seed: int,
    sizes: Sizes,
    launch: Launch | None,
) -> dict[str, Stage]:
    """Stages by name: `other/0` and so on, one per reward model in `others`, with those of their parts, and
    `agreement`. None where there is nothing to compare. `data`: the stages `seeds`, `reward` and `ranked`."""
    if not others and not reward.parts:
        return {}
    stages: dict[str, Stage] = {}
    for i, other in enumerate(others):
        stage = reward_stage(other, data["seeds"], seed, sizes, f"other/{i}", launch)
        stages |= {name: part for name, part in stage.inputs.items() if name != "seeds"}
        stages[f"other/{i}"] = stage
    stages["agreement"] = _agreement_stage(reward, others, data, stages, launch)
    return stages


def _agreement_stage(
    reward: RewardModel,
    others: Sequence[RewardModel],
    data: Mapping[str, Stage],
    compared: Mapping[str, Stage],
    launch: Launch | None,
) -> Stage:
    """Its report has `models` (`name`, numbered where several share it, and how many responses were `not_scored`), and
    `pairs` of them with Kendall's `tau`-b within prompts, over training and held-out prompts."""

    def body(ctx: Context) -> dict[str, Any]:
        ranked = ctx.inputs["ranked"]
        examples = [e for file in ("ranked.jsonl", "heldout.jsonl") for e in ranked.rows(file, RankedExample)]
        rows = [(e.messages, r.text) for e in examples for r in e.responses]
        scores = [[[r.score for r in e.responses] for e in examples]]
        scorers = _scorers(reward, others)
        for model, role in scorers:
            what = f"scoring responses by {identity(model)['name']}"
            scores.append(scores_by_prompt(examples, scored(ctx, model, role, launch, rows, what)))
        names = _numbered([identity(model)["name"] for model in (reward, *(model for model, _ in scorers))])
        return {
            "models": [
                {"name": name, "not_scored": sum(s is None for group in groups for s in group)}
                for name, groups in zip(names, scores, strict=True)
            ],
            "pairs": [
                {"first": a, "second": b, "tau": agreement(one, other).model_dump(mode="json")}
                for (a, one), (b, other) in combinations(zip(names, scores, strict=True), 2)
            ],
        }

    parts = {name: stage for name, stage in data["reward"].inputs.items() if name != "seeds"}
    inputs = {"ranked": data["ranked"], "reward": data["reward"]} | parts | dict(compared)
    journals = score_journals(reward, data["reward"])
    for i, other in enumerate(others):
        journals |= score_journals(other, compared[f"other/{i}"])
    return Stage(
        "agreement",
        "agreement",
        1,
        {},
        inputs,
        body,
        exclusive=journals,
        serves=data["ranked"].serves,
        spreads=spreads_of(*(model for model, _ in _scorers(reward, others))),
        engines=engines_of(reward, *others),
    )


def _scorers(reward: RewardModel, others: Sequence[RewardModel]) -> list[tuple[RewardModel, str]]:
    """What is compared with the reward model: (model, its role) of its parts, of the others and of theirs."""
    found = [*_parts(reward, "reward")]
    for i, other in enumerate(others):
        found += [(other, f"other/{i}"), *_parts(other, f"other/{i}")]
    return found


def _parts(model: RewardModel, role: str) -> Iterator[tuple[RewardModel, str]]:
    """The reward models that one is composed of, at any depth, with their roles."""
    for i, part in enumerate(model.parts):
        yield part, f"{role}/part/{i}"
        yield from _parts(part, f"{role}/part/{i}")


def _numbered(names: Sequence[str]) -> list[str]:
    """In order, with `trained` as `trained 1`, `trained 2` where there are several of the name."""
    totals, counts = Counter(names), Counter[str]()
    numbered = []
    for name in names:
        counts[name] += 1
        numbered.append(f"{name} {counts[name]}" if totals[name] > 1 else name)
    return numbered
