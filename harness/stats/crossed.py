"""Differences between methods, trained with several seeds and measured on several prompts: both are random.

Each seed's checkpoints answer the same prompts: differences d_sp, seed s, prompt p, are crossed. With the mean squares
of seeds, prompts and the rest, M_S, M_P and M_E (Scheffé 1959, chapter 7: E M_S = n σ_S² + σ_E², E M_P = K σ_P² + σ_E²,
E M_E = σ_E²), the mean of all differences has the variance (σ_S² / K + σ_P² / n + σ_E² / (Kn)). Its confidence
interval adds the squares of two reaches, as Howe (1974) does: Student's t with K - 1 degrees of freedom times what the
seeds show, and the bound over prompts of `harness.stats.bounds` times what the prompts add to that. The seeds' part is
never smaller than a quarter of what sampling alone would make of it, M_E / (Kn): two trainings that happen to agree
prove nothing. The unseen prompts' reach shrinks as the seen prompts' spread does in the mean over seeds.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from harness.stats.bounds import SKEWED, Mean, mean_of, settled
from harness.stats.student import quantile

LEAST = 0.25
"""The share of the sampling variance that the seeds' part is at least."""


class Crossed(NamedTuple):
    """A mean difference over K seeds and n prompts. `by_seed`: each seed's mean. `over_prompts`: the mean over seeds,
    prompt by prompt. `rest`: M_E / (Kn), the variance of the mean that seeds and prompts share."""

    by_seed: tuple[float, ...]
    over_prompts: Mean
    rest: float

    @property
    def value(self) -> float:
        """The mean over all seeds and prompts."""
        return self.over_prompts.value

    @property
    def seeds(self) -> int:
        """K."""
        return len(self.by_seed)

    @property
    def seen_over_seeds(self) -> float:
        """M_S / (Kn): the variance of the mean as the seeds' means show it; at least LEAST of `rest`."""
        return max(LEAST * self.rest, _variance(self.by_seed) / self.seeds)

    @property
    def from_trainings(self) -> float:
        """The standard error's part that comes from the trainings: the root of σ_S² / K."""
        return math.sqrt(max(0.0, self.seen_over_seeds - self.rest))

    @property
    def from_prompts(self) -> float:
        """The part that comes from the prompts and all else: the root of σ_P² / n + σ_E² / (Kn)."""
        return max(math.sqrt(self.rest), self.over_prompts.stderr)

    @property
    def stderr(self) -> float:
        """The standard error of `value`; its square is the sum of the squares of the two parts."""
        return math.hypot(self.from_trainings, self.from_prompts)

    def bound(self, tail: float, side: int) -> float:
        """The lower (-1) or upper (1) confidence bound that the truth lies beyond with probability `tail`."""
        return settled(lambda at: self._bound_near(tail, side, at), self.over_prompts.with_unseen)

    def _bound_near(self, tail: float, side: int, at: float) -> float:
        """The bound with the skewness about `at`, where it lies."""
        prompts = self.over_prompts
        added = max(0.0, prompts.stderr_with_unseen**2 - self.rest)
        q_seeds, q = quantile(1 - tail, self.seeds - 1), quantile(1 - tail, prompts.degrees)
        reach = math.sqrt(q_seeds**2 * self.seen_over_seeds + q**2 * added)
        return prompts.with_unseen + side * (reach + (q * q + SKEWED) / 3 * prompts.skew(side, at))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The two-sided confidence interval."""
        return self.bound((1 - level) / 2, -1), self.bound((1 - level) / 2, 1)

    def p_beyond(self, null: float, side: int) -> float:
        """The one-sided p value of the truth lying at `null` or beyond on that side, by bisection over the tail."""
        low, high = 0.0, 0.5
        if side * (null - self._bound_near(high, side, null)) <= 0:
            return 0.5  # more is never asked
        for _ in range(24):
            middle = (low + high) / 2 if low else high / 4
            if side * (null - self._bound_near(middle, side, null)) > 0:
                high = middle
            else:
                low = middle
            if high < 1e-7:
                break
        return high

    def p_value(self, null: float = 0.0) -> float:
        """The two-sided p value: below 0.05 exactly where the 95 % interval leaves out `null`."""
        return min(1.0, 2 * min(self.p_beyond(null, -1), self.p_beyond(null, 1)))


def crossed(
    differences: Sequence[Sequence[float]], reach: float | None, strata: Sequence[object] | None = None
) -> Crossed:
    """From differences by seed and prompt: [K, n], all seeds on the same prompts. `reach`, `strata`: as in
    `harness.stats.bounds.mean_of`. Raises ValueError for fewer than two seeds or prompts."""
    k, n = len(differences), len(differences[0])
    if k < 2:
        raise ValueError(f"{k} seeds are too few to say anything about a method")
    by_seed = [math.fsum(row) / n for row in differences]
    by_prompt = [math.fsum(column) / k for column in zip(*differences, strict=True)]
    mean = math.fsum(by_seed) / k
    squares = math.fsum(
        (x - of_seed - of_prompt + mean) ** 2
        for row, of_seed in zip(differences, by_seed, strict=True)
        for x, of_prompt in zip(row, by_prompt, strict=True)
    )
    rest = squares / ((k - 1) * (n - 1)) / (k * n)
    over_prompts = mean_of(by_prompt, reach, 0.0, strata)
    single = math.fsum(_variance(row) for row in differences) / k
    return Crossed(tuple(by_seed), _with_reach(over_prompts, _variance(by_prompt), single), rest)


def crossed_resamples(by_seed: Sequence[float], resamples: Sequence[Sequence[float]], n: int, reach: float) -> Crossed:
    """For figures that are not means over prompts: each seed's difference, and the differences in the same bootstrap
    resamples of the n prompts: [K, resamples]. A resample's variance is 1 / K of the rest more for a single seed than
    for their mean, which tells the rest."""
    k = len(by_seed)
    if k < 2:
        raise ValueError(f"{k} seeds are too few to say anything about a method")
    mean = mean_of_resamples(math.fsum(by_seed) / k, [math.fsum(c) / k for c in zip(*resamples, strict=True)], n, reach)
    single = math.fsum(_variance(row) for row in resamples) / k
    return Crossed(
        tuple(by_seed), _with_reach(mean, mean.stderr**2, single), max(0.0, single - mean.stderr**2) / (k - 1)
    )


def _with_reach(mean: Mean, together: float, single: float) -> Mean:
    """The mean over seeds with the reach of an unseen prompt: that of one seed, times how much less prompts spread in
    the mean (`together`, a variance) than in one seed (`single`)."""
    return mean._replace(reach=mean.reach * math.sqrt(min(1.0, together / single) if single > 0 else 1.0))


def mean_of_resamples(value: float, resamples: Sequence[float], n: int, reach: float) -> Mean:
    """A figure that is not a mean over prompts, from its bootstrap over n prompts, with the bounds of one that is."""
    middle = math.fsum(resamples) / len(resamples)
    third = math.fsum((x - middle) ** 3 for x in resamples) / len(resamples)
    return Mean(value, math.sqrt(_variance(resamples)), n, third, reach, n - 1)


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((x - mean) ** 2 for x in values) / (len(values) - 1)
