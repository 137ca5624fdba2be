"""Scores by prompt: what reward models that are made from others need, since only differences within a prompt mean
anything."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Scale(NamedTuple):
    """Mean and standard deviation (over n) of a prompt's scores."""

    mean: float
    sd: float


def scales(prompts: Sequence[str], scores: Sequence[float | None]) -> dict[str, Scale]:
    """The scale of each prompt's scores, by prompt id; those that are None are left out."""
    groups: dict[str, list[float]] = {}
    for prompt, score in zip(prompts, scores, strict=True):
        groups.setdefault(prompt, []).extend([] if score is None else [score])
    found = {}
    for prompt, group in groups.items():
        mean = sum(group) / max(1, len(group))
        found[prompt] = Scale(mean, math.sqrt(sum((x - mean) ** 2 for x in group) / max(1, len(group))))
    return found


def standardised(prompts: Sequence[str], scores: Sequence[float | None]) -> list[float | None]:
    """Scores in standard deviations from their prompt's mean; 0 where all of a prompt's are equal."""
    by_prompt = scales(prompts, scores)
    found: list[float | None] = []
    for prompt, score in zip(prompts, scores, strict=True):
        scale = by_prompt[prompt]
        found.append(None if score is None else (score - scale.mean) / scale.sd if scale.sd else 0.0)
    return found
