"""Paired comparison of rows: which differences are statistically significant, and which would be detectable.

Two rows that answered the same prompts are compared on those prompts. The difficulty of a prompt cancels out, so the
difference has a smaller standard error than with independent prompts. Values of one prompt (the turns of a
conversation) are kept together everywhere. A prompt that isn't scored in both rows is left out of that comparison and
counted.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.stats.intervals import bootstrap_indices
from harness.stats.student import quantile, upper_tail
from harness.types import Record

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2000
PERMUTATIONS = 10_000
FEW, ENOUGH = 10, 30
POWER = 0.8
ALPHA = 0.05


class Comparison(Record):
    """Row `first` minus row `second`. `stderr`: of the difference, paired; `unpaired_stderr`: if the rows had answered
    different prompts of the same kind. `ci95`: percentile bootstrap over prompts. `p`: two-sided, from a sign-flip
    permutation test; `adjusted_p`: Holm-adjusted over all comparisons of one call. `detectable`: the smallest true
    difference that this number of prompts detects at the 5 % level with 80 % power. `prompts`: scored in both rows;
    `left_out`: the other prompts of either row."""

    first: str
    second: str
    difference: float
    stderr: float
    unpaired_stderr: float
    ci95: tuple[float, float]
    p: float
    adjusted_p: float
    detectable: float
    prompts: int
    left_out: int

    @property
    def is_real(self) -> bool:
        """Whether the difference is significant at the 5 % level, adjusted for all comparisons."""
        return self.adjusted_p < ALPHA


Values = Mapping[str, float | None]
"""A row's values by key: `id`, or `id/turn` and `id#sample`, which belong to prompt `id`. None: not scored."""


def prompt_of(key: str) -> str:
    """The prompt id of a value's key, without turn (`81/1`) and sample (`81#2`)."""
    return key.split("/")[0].split("#")[0]


def compare(rows: Mapping[str, Values], pairs: Sequence[tuple[str, str]] | None = None) -> list[Comparison]:
    """Compare all pairs of rows, or the given pairs, with Holm's correction over them. A pair that shares fewer than
    two prompts is left out. Deterministic."""
    names = list(rows)
    selected = pairs if pairs is not None else [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for first, second in selected:
        # Sorted, because a board read from disk may have its rows' values in another order.
        shared = tuple(sorted(k for k, v in rows[first].items() if v is not None and rows[second].get(k) is not None))
        groups.setdefault(shared, []).append((first, second))
    by_pair: dict[tuple[str, str], Comparison] = {}
    for shared, group in groups.items():
        if len({prompt_of(key) for key in shared}) > 1:
            by_pair |= _on_shared(rows, shared, group)
    comparisons = [by_pair[pair] for pair in selected if pair in by_pair]
    adjusted = holm([c.p for c in comparisons])
    return [c.model_copy(update={"adjusted_p": p}) for c, p in zip(comparisons, adjusted, strict=True)]


def _on_shared(
    rows: Mapping[str, Values], shared: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Comparison]:
    """Compare pairs of rows that all share the same keys. All use the same resamples and signs, so each row is
    multiplied with them only once, however many pairs it is in."""
    import numpy as np

    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    index = {name: i for i, name in enumerate(names)}
    prompts = {prompt: i for i, prompt in enumerate(dict.fromkeys(map(prompt_of, shared)))}
    prompt_index = np.array([prompts[prompt_of(key)] for key in shared])
    counts = np.bincount(prompt_index).astype(float)
    values = np.array([[rows[name][key] for key in shared] for name in names], dtype=float)
    sums = np.array([np.bincount(prompt_index, weights=row_values) for row_values in values])
    n, total = len(counts), counts.sum()
    means = sums.sum(axis=1) / total
    residuals = sums - counts * means[:, None]
    covariance = residuals @ residuals.T * (n / (n - 1) / total**2)
    weights = _resample_counts(n)
    resampled = (weights @ sums.T) / (weights @ counts)[:, None]
    signed = _signs(n) @ (sums / total).T
    answered = [{prompt_of(key) for key in rows[name]} for name in names]
    comparisons = {}
    for first, second in pairs:
        i, j = index[first], index[second]
        difference = float(means[i] - means[j])
        variance = covariance[i, i] + covariance[j, j]
        stderr = float(np.sqrt(max(0.0, variance - 2 * covariance[i, j])))
        low, high = np.percentile(resampled[:, i] - resampled[:, j], [2.5, 97.5])
        comparisons[first, second] = Comparison(
            first=first,
            second=second,
            difference=difference,
            stderr=stderr,
            unpaired_stderr=float(np.sqrt(variance)),
            ci95=(float(low), float(high)),
            p=_p_value(difference, stderr, n, signed[:, i] - signed[:, j]),
            adjusted_p=1.0,
            detectable=detectable(stderr, n),
            prompts=n,
            left_out=len(answered[i] | answered[j]) - n,
        )
    return comparisons


def _resample_counts(n: int) -> "np.ndarray":
    """How often each of n prompts occurs in each bootstrap resample: [RESAMPLES, n]. The resamples are those of
    `harness.stats.intervals`."""
    import numpy as np

    resamples = bootstrap_indices(n, RESAMPLES, 0)
    return np.stack([np.bincount(row, minlength=n) for row in resamples]).astype(float)


def _signs(n: int) -> "np.ndarray":
    """Random signs for n prompts: [PERMUTATIONS, n]."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 2, size=(PERMUTATIONS, n)) * 2.0 - 1.0


def _p_value(difference: float, stderr: float, prompts: int, flipped: "np.ndarray") -> float:
    """Two-sided p-value of the sign-flip permutation test: how often random signs of the prompts' differences give a
    mean at least as large. The observed signs count as one draw, so it is never 0. If fewer than FEW draws reach the
    observed difference, the estimate is too coarse for Holm's correction over many pairs; from ENOUGH prompts on, the
    p-value of the paired t test is then used if it is smaller. `flipped`: the mean differences under random signs."""
    import numpy as np

    # Differences that are equal up to rounding count as equal.
    reached = np.abs(flipped) >= abs(difference) - 1e-9 * max(1.0, abs(difference))
    counted = int(reached.sum())
    p = (1 + counted) / (1 + len(flipped))
    if counted >= FEW or prompts < ENOUGH or stderr == 0:
        return p
    return min(p, 2 * upper_tail(abs(difference) / stderr, prompts - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (1979): below alpha if the comparison is significant at a family-wise error
    rate of alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, reached = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = reached
    return adjusted


def detectable(stderr: float, prompts: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest true difference that a two-sided test at `alpha` detects with `power`, at this standard error."""
    return (quantile(1 - alpha / 2, prompts - 1) + quantile(power, prompts - 1)) * stderr


def power_at(difference: float, stderr: float, prompts: int, alpha: float = ALPHA) -> float:
    """The probability that a two-sided test at `alpha` detects a true difference of this size."""
    from scipy.stats import nct, t

    critical, shift = t.ppf(1 - alpha / 2, prompts - 1), difference / stderr
    return float(nct.sf(critical, prompts - 1, shift) + nct.cdf(-critical, prompts - 1, shift))


def compare_resamples(
    first: str, second: str, values: tuple[float, float], resamples: "tuple[Sequence[float], Sequence[float]]", n: int
) -> Comparison:
    """Compare two figures that are not means (the length-controlled win rate, whose regression is refitted in each
    resample), from their values and their values in the same resamples of the same n prompts. `p`: two-sided, from the
    difference divided by its bootstrap standard error, as a standard normal variate."""
    import numpy as np

    one, other = (np.asarray(r, dtype=float) for r in resamples)
    differences = one - other
    stderr = float(differences.std(ddof=1))
    low, high = np.percentile(differences, [2.5, 97.5])
    unpaired = float(np.hypot(one.std(ddof=1), other.std(ddof=1)))
    difference = values[0] - values[1]
    p = math.erfc(abs(difference) / stderr / math.sqrt(2)) if stderr > 0 else float(difference == 0)
    return Comparison(
        first=first,
        second=second,
        difference=difference,
        stderr=stderr,
        unpaired_stderr=unpaired,
        ci95=(float(low), float(high)),
        p=p,
        adjusted_p=p,
        detectable=detectable(stderr, n),
        prompts=n,
        left_out=0,
    )
