"""Ratings of rows from pairwise wins on each prompt: a Bradley-Terry model (1952) on the Elo scale."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from harness.stats.intervals import bootstrap_indices, percentile_interval
from harness.stats.paired import prompt_of

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 200
PER_NAT = 400 / math.log(10)
PRIOR = 0.5
"""Pseudo-counts of wins and losses added to each pair, so that ratings stay finite for a row that wins everything."""


class Strength(NamedTuple):
    """A row's rating. `elo`: 1000 is the mean of all rows. `ci95`: percentile bootstrap over prompts."""

    elo: float
    ci95: tuple[float, float]


def strengths(rows: Mapping[str, Mapping[str, float | None]]) -> dict[str, Strength]:
    """The rating of each row; empty for fewer than two rows or two shared prompts. `rows`: values by prompt. On each
    prompt the row with the higher value (the mean over its turns) wins; equal values count as half a win each. Only
    prompts scored for all rows count."""
    import numpy as np

    row_means = {name: _means(values) for name, values in rows.items()}
    shared = sorted(set.intersection(*(set(v) for v in row_means.values()))) if row_means else []
    if len(rows) < 2 or len(shared) < 2:
        return {}
    table = np.array([[means[key] for key in shared] for means in row_means.values()])
    # [prompt, i, j]: 1 if row i beats row j, 0.5 for a tie.
    better = (table.T[:, :, None] > table.T[:, None, :]) + 0.5 * (table.T[:, :, None] == table.T[:, None, :])
    resamples = bootstrap_indices(len(shared), RESAMPLES, 0)
    point = _fit(better.sum(axis=0))
    samples = np.array([_fit(better[i].sum(axis=0)) for i in resamples])
    return {name: Strength(float(point[k]), percentile_interval(samples[:, k])) for k, name in enumerate(row_means)}


def _means(values: Mapping[str, float | None]) -> dict[str, float]:
    """The mean over turns of each prompt that was scored completely."""
    by_prompt: dict[str, list[float]] = {}
    unscored = {prompt_of(key) for key, value in values.items() if value is None}
    for key, value in values.items():
        if value is not None and prompt_of(key) not in unscored:
            by_prompt.setdefault(prompt_of(key), []).append(value)
    return {prompt: sum(turns) / len(turns) for prompt, turns in by_prompt.items()}


def _fit(wins: "np.ndarray") -> "np.ndarray":
    """Elo ratings from wins [i over j], by Hunter's MM algorithm (2004, Annals of Statistics 32)."""
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
