"""Per-prompt scales of scores, for reward models built from others: only differences within a prompt mean anything."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Scale(NamedTuple):
    """Mean and standard deviation (divisor n) of a prompt's scores."""

    mean: float
    sd: float


def scales(prompts: Sequence[str], scores: Sequence[float | None]) -> dict[str, Scale]:
    """The scale of each prompt's scores, by prompt id. Scores that are None are ignored."""
    groups: dict[str, list[float]] = {}
    for prompt, score in zip(prompts, scores, strict=True):
        groups.setdefault(prompt, []).extend([] if score is None else [score])
    by_prompt = {}
    for prompt, group in groups.items():
        mean = sum(group) / max(1, len(group))
        by_prompt[prompt] = Scale(mean, math.sqrt(sum((x - mean) ** 2 for x in group) / max(1, len(group))))
    return by_prompt


def standardise(prompts: Sequence[str], scores: Sequence[float | None]) -> list[float | None]:
    """Scores in standard deviations from their prompt's mean; 0 if all scores of a prompt are equal."""
    by_prompt = scales(prompts, scores)
    standardised: list[float | None] = []
    for prompt, score in zip(prompts, scores, strict=True):
        scale = by_prompt[prompt]
        standardised.append(None if score is None else (score - scale.mean) / scale.sd if scale.sd else 0.0)
    return standardised
