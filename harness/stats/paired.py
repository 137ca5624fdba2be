"""Paired comparison of rows: which differences are statistically significant, and which would be detectable.

Two rows that answered the same prompts are compared on those prompts. The difficulty of a prompt cancels out, so the
difference has a smaller standard error than with independent prompts. Values of one prompt (the turns of a
conversation) are kept together everywhere. A prompt that isn't scored in both rows is left out of that comparison and
counted. Interval and p value are of one method, `harness.stats.bounds`, and so never disagree.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.stats.bounds import FEWEST, UNSEEN, Mean, mean_of
from harness.stats.crossed import mean_of_resamples
from harness.stats.student import quantile
from harness.types import Record

if TYPE_CHECKING:
    pass

POWER = 0.8
ALPHA = 0.05
MOST_WITHOUT_NUMPY = 50_000
"""Pairs times prompts up to which plain Python is faster than numpy with its import."""


class Comparison(Record):
    """Row `first` minus row `second`. `stderr`: of the difference, paired; `unpaired_stderr`: if the rows had answered
    different prompts of the same kind. `ci95`: the 95 % confidence interval, None with fewer than FEWEST prompts, which
    are too few to tell anything. `p`: two-sided, below 0.05 exactly where the interval leaves out zero; `adjusted_p`:
    Holm-adjusted over all comparisons of one call. `detectable`: the smallest true difference that this number of
    prompts detects at the 5 % level with 80 % power. `prompts`: scored in both rows; `left_out`: the other prompts of
    either row."""

    first: str
    second: str
    difference: float
    stderr: float
    unpaired_stderr: float
    ci95: tuple[float, float] | None
    p: float
    adjusted_p: float
    detectable: float
    prompts: int
    left_out: int

    @property
    def is_significant(self) -> bool:
        """Whether the difference is significant at the 5 % level, adjusted for all comparisons."""
        return self.adjusted_p < ALPHA


Values = Mapping[str, float | None]
"""A row's values by key: `id`, or `id/turn` and `id#sample`, which belong to prompt `id`. None: not scored."""
Strata = Mapping[str, str]
"""Prompt -> its stratum; prompts that are not named share one."""


@lru_cache(maxsize=100_000)
def prompt_of(key: str) -> str:
    """The prompt id of a value's key, without turn (`81/1`) and sample (`81#2`)."""
    return key.split("/")[0].split("#")[0]


def compare(
    rows: Mapping[str, Values],
    pairs: Sequence[tuple[str, str]] | None = None,
    *,
    reach: float | None = None,
    strata: Strata | None = None,
) -> list[Comparison]:
    """Compare all pairs of rows, or the given pairs, with Holm's correction over them. A pair that shares fewer than
    two prompts is left out. `reach`: the largest possible difference on a prompt, None where there is none."""
    names = list(rows)
    selected = pairs if pairs is not None else [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    scored = {name: {k: v for k, v in rows[name].items() if v is not None} for pair in selected for name in pair}
    answered = {name: {prompt_of(key) for key in rows[name]} for name in scored}
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for first, second in selected:
        # Sorted, because a board read from disk may have its rows' values in another order.
        groups.setdefault(tuple(sorted(scored[first].keys() & scored[second].keys())), []).append((first, second))
    by_pair: dict[tuple[str, str], Comparison] = {}
    for shared, group in groups.items():
        prompts = dict.fromkeys(map(prompt_of, shared))
        if len(prompts) < 2:
            continue
        values = {name: per_prompt(scored[name], shared) for name in {name for pair in group for name in pair}}
        of_prompt = None if strata is None else [strata.get(prompt, "") for prompt in prompts]
        for (first, second), mean, unpaired in _means(values, group, reach, of_prompt):
            left_out = len(answered[first] | answered[second]) - mean.n
            by_pair[first, second] = comparison(first, second, mean, unpaired, left_out, reach)
    comparisons = [by_pair[pair] for pair in selected if pair in by_pair]
    adjusted = holm([c.p for c in comparisons])
    return [c.model_copy(update={"adjusted_p": p}) for c, p in zip(comparisons, adjusted, strict=True)]


def per_prompt(values: Mapping[str, float], keys: Sequence[str]) -> list[float]:
    """One value per prompt whose mean is the mean over all keys: with as many values of each prompt its mean, else that
    mean moved so that prompts with more values weigh more (the linearised ratio of sums)."""
    prompts = [prompt_of(key) for key in keys]
    if len(set(prompts)) == len(keys):
        return [values[key] for key in keys]
    sums: dict[str, list[float]] = {}
    for key, prompt in zip(keys, prompts, strict=True):
        sums.setdefault(prompt, []).append(values[key])
    total = math.fsum(x for group in sums.values() for x in group) / len(keys)
    scale = len(sums) / len(keys)
    return [total + scale * (math.fsum(group) - len(group) * total) for group in sums.values()]


def _means(
    values: Mapping[str, Sequence[float]],
    pairs: Sequence[tuple[str, str]],
    reach: float | None,
    strata: Sequence[str] | None,
) -> "list[tuple[tuple[str, str], Mean, float]]":
    """Each pair with its mean difference and the unpaired standard error."""
    n = len(next(iter(values.values())))
    alone = {name: mean_of(row, None, 0.0, strata).stderr for name, row in values.items()}
    unpaired = [math.hypot(alone[first], alone[second]) for first, second in pairs]
    if len(pairs) * n <= MOST_WITHOUT_NUMPY or strata is not None:
        rows = (([x - y for x, y in zip(values[a], values[b], strict=True)]) for a, b in pairs)
        means = [mean_of(row, reach, 0.0, strata) for row in rows]
    else:
        means = _means_by_numpy(values, pairs, reach)
    return list(zip(pairs, means, unpaired, strict=True))


def _means_by_numpy(
    values: Mapping[str, Sequence[float]], pairs: Sequence[tuple[str, str]], reach: float | None
) -> list[Mean]:
    """`mean_of` for many pairs."""
    import numpy as np

    rows = {name: np.asarray(row, dtype=float) for name, row in values.items()}
    means = []
    for first, second in pairs:
        differences = rows[first] - rows[second]
        n, mean = len(differences), float(differences.mean())
        centred = differences - mean
        squares = centred * centred
        stderr = math.sqrt(float(squares.sum()) / (n - 1) / n)
        away = reach if reach is not None else float(np.abs(differences).max())
        means.append(Mean(mean, stderr, n, float((squares * centred).sum()) / n**3, away, n - 1))
    return means


def comparison(
    first: str, second: str, mean: Mean, unpaired_stderr: float, left_out: int, reach: float | None
) -> Comparison:
    """What a mean difference says; `adjusted_p` is `p`. `reach`: as in `compare`."""
    enough = mean.n >= FEWEST
    most = math.inf if reach is None else reach
    p = mean.p_value() if enough else 1.0
    return Comparison(
        first=first,
        second=second,
        difference=mean.value,
        stderr=mean.stderr,
        unpaired_stderr=unpaired_stderr,
        ci95=within(mean.interval(), most) if enough else None,
        p=p,
        adjusted_p=p,
        detectable=min(most, detectable(mean)),
        prompts=mean.n,
        left_out=left_out,
    )


def within(interval: tuple[float, float], most: float) -> tuple[float, float]:
    """The part of an interval that lies within what a difference can be."""
    return max(-most, interval[0]), min(most, interval[1])


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (1979): below alpha if the comparison is significant at a family-wise error
    rate of alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, reached = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = reached
    return adjusted


def detectable(mean: Mean, tail: float = ALPHA / 2, power: float = POWER) -> float:
    """The smallest true difference that a test with this tail detects with `power`, at this standard error."""
    n = mean.n
    stderr = math.sqrt((mean.squares + UNSEEN * mean.reach**2) / ((n + UNSEEN - 1) * (n + UNSEEN)))
    shrunk = n / (n + UNSEEN)
    return (quantile(1 - tail, mean.degrees) + quantile(power, mean.degrees)) * stderr / shrunk


def compare_resamples(
    first: str,
    second: str,
    values: tuple[float, float],
    resamples: "tuple[Sequence[float], Sequence[float]]",
    n: int,
    reach: float = 100.0,
) -> Comparison:
    """Compare two figures that are not means (the length-controlled win rate, whose regression is refitted in each
    resample), from their values and their values in the same resamples of the same n prompts."""
    one, other = resamples
    mean = mean_of_resamples(values[0] - values[1], [x - y for x, y in zip(one, other, strict=True)], n, reach)
    alone = [mean_of_resamples(0.0, row, n, reach).stderr for row in resamples]
    return comparison(first, second, mean, math.hypot(*alone), 0, reach)
