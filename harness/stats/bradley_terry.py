"""Ratings of rows from pairwise wins on each prompt: a Bradley-Terry model (1952) on the Elo scale.

A row's value on a prompt is not a game's end but a number with noise, such as a probability that a judge's tokens give.
A threshold below which two values are a tie (Rao & Kupper 1967; a tie is half a win each, as in chess) leaves a jump: a
hair more, and the tie is a win. So wins are soft: within a band around equality the share of a win rises in proportion
to the difference. Shares of wins are fitted as wins are: the likelihood's score equations are linear in them.
"""

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


BAND = 0.05
"""The difference, as a share of the figure's range, from which on a prompt is won in full."""


class Strength(NamedTuple):
    """A row's rating. `elo`: 1000 is the mean of all rows. `ci95`: percentile bootstrap over prompts."""

    elo: float
    ci95: tuple[float, float]


def strengths(rows: Mapping[str, Mapping[str, float | None]], reach: float | None = None) -> dict[str, Strength]:
    """The rating of each row; empty for fewer than two rows or two shared prompts. `rows`: values by prompt, of which
    several turns are averaged. Only prompts scored for all rows count. `reach`: the figure's range, its largest
    difference on a prompt. On each prompt a row wins 1/2 + d / (2 BAND reach), between 0 and 1, of its game
    against another, d its value minus the other's. Without a range any difference is a win in full."""
    import numpy as np

    row_means = {name: _means(values) for name, values in rows.items()}
    shared = sorted(set.intersection(*(set(v) for v in row_means.values()))) if row_means else []
    if len(rows) < 2 or len(shared) < 2:
        return {}
    table = np.array([[means[key] for key in shared] for means in row_means.values()]).T
    better = _shares(table[:, :, None] - table[:, None, :], reach)  # [prompt, i, j]: of the game that row i wins
    resamples = bootstrap_indices(len(shared), RESAMPLES, 0)
    point = _fit(better.sum(axis=0))
    samples = np.array([_fit(better[i].sum(axis=0)) for i in resamples])
    return {name: Strength(float(point[k]), percentile_interval(samples[:, k])) for k, name in enumerate(row_means)}


def _shares(differences: "np.ndarray", reach: float | None) -> "np.ndarray":
    """The shares of wins that differences give."""
    import numpy as np

    if not reach:
        return np.asarray(0.5 + 0.5 * np.sign(differences))
    return np.asarray(np.clip(0.5 + differences / (2 * BAND * reach), 0.0, 1.0))


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
