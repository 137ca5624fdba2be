"""Strengths of rows from who did better on each prompt: a Bradley-Terry model (1952) on Elo's scale."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from harness.paired import prompt_of
from harness.stats import bootstrap_indices, percentile_interval

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 200
PER_NAT = 400 / math.log(10)
PRIOR = 0.5
"""Wins and losses that each pair is taken to have had, so that who wins all stays finite."""


class Strength(NamedTuple):
    """`elo`: 1000 is the rows' mean. `ci95`: percentile bootstrap over prompts."""

    elo: float
    ci95: tuple[float, float]


def strengths(rows: Mapping[str, Mapping[str, float | None]]) -> dict[str, Strength]:
    """Of each row; empty where fewer than two rows share two prompts. On a prompt the row with the higher value wins
    (the mean over its turns), equal values are half a win each; only prompts that all rows were scored on count."""
    import numpy as np

    by_prompt = {name: _means(values) for name, values in rows.items()}
    shared = sorted(set.intersection(*(set(v) for v in by_prompt.values()))) if by_prompt else []
    if len(rows) < 2 or len(shared) < 2:
        return {}
    table = np.array([[found[key] for key in shared] for found in by_prompt.values()])
    # [prompt, i, j]: 1 where row i did better than row j.
    better = (table.T[:, :, None] > table.T[:, None, :]) + 0.5 * (table.T[:, :, None] == table.T[:, None, :])
    drawn = bootstrap_indices(len(shared), RESAMPLES, 0)
    point = _fit(better.sum(axis=0))
    samples = np.array([_fit(better[i].sum(axis=0)) for i in drawn])
    return {name: Strength(float(point[k]), percentile_interval(samples[:, k])) for k, name in enumerate(by_prompt)}


def _means(values: Mapping[str, float | None]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    lost = {prompt_of(key) for key, value in values.items() if value is None}
    for key, value in values.items():
        if value is not None and prompt_of(key) not in lost:
            found.setdefault(prompt_of(key), []).append(value)
    return {prompt: sum(some) / len(some) for prompt, some in found.items()}


def _fit(wins: "np.ndarray") -> "np.ndarray":
    """Elo from wins [i over j], by Hunter's MM iteration (2004, Annals of Statistics 32)."""
    import numpy as np

    wins = wins + PRIOR * (1 - np.eye(len(wins)))
    np.fill_diagonal(wins, 0.0)
    games, won = wins + wins.T, wins.sum(axis=1)
    strength = np.ones(len(wins))
    for _ in range(500):
        before = strength
        strength = won / (games / (strength[:, None] + strength[None, :])).sum(axis=1)
        strength /= np.exp(np.log(strength).mean())
        if np.abs(np.log(strength / before)).max() < 1e-6:
            break
    return 1000 + PER_NAT * np.log(strength)
