"""Rows compared prompt by prompt: which differences are real, and which could have been seen at all.

Two rows that answered the same prompts are compared on those prompts: prompts that are hard for both cancel out, and a
difference has a smaller error than the two figures have apart. Values of one prompt (the turns of a conversation) go
together everywhere. A prompt that was not scored in either row is left out of that comparison and counted.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.stats import bootstrap_indices
from harness.types import Record

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2000
PERMUTATIONS = 10_000
FEW, ENOUGH = 10, 30
POWER = 0.8
ALPHA = 0.05


class Comparison(Record):
    """Row `first` less row `second`. `stderr`: of the difference, paired; `unpaired_stderr`: what it would be if the
    rows had answered different prompts of the same kind. `ci95`: percentile bootstrap over prompts. `p`: two-sided, of
    a sign-flip permutation test; `adjusted_p`: by Holm over all comparisons made together. `detectable`: the smallest
    true difference that this many prompts show at the 5 % level with 80 % power. `prompts`: shared by both; `left_out`:
    of those that either row has, the ones that are not scored in both."""

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
        """Whether the difference is one at the 5 % level, all comparisons considered."""
        return self.adjusted_p < ALPHA


Values = Mapping[str, float | None]
"""A row's values by prompt; `id/turn` and `id#sample` are values of prompt `id`. None: not scored."""


def prompt_of(key: str) -> str:
    """The prompt of a value: turns (`81/1`) and samples (`81#2`) of one go together."""
    return key.split("/")[0].split("#")[0]


def compare(rows: Mapping[str, Values], pairs: Sequence[tuple[str, str]] | None = None) -> list[Comparison]:
    """All pairs of rows, or those named, with Holm's correction over them. A pair that shares fewer than two prompts is
    left out. The same to the digit always."""
    names = list(rows)
    wanted = pairs if pairs is not None else [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for first, second in wanted:
        # In an order of their own: a board that was read again has its rows' values in another one.
        shared = tuple(sorted(k for k, v in rows[first].items() if v is not None and rows[second].get(k) is not None))
        groups.setdefault(shared, []).append((first, second))
    found: dict[tuple[str, str], Comparison] = {}
    for shared, some in groups.items():
        if len({prompt_of(key) for key in shared}) > 1:
            found |= _on_shared(rows, shared, some)
    made = [found[pair] for pair in wanted if pair in found]
    adjusted = holm([c.p for c in made])
    return [c.model_copy(update={"adjusted_p": p}) for c, p in zip(made, adjusted, strict=True)]


def _on_shared(
    rows: Mapping[str, Values], shared: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Comparison]:
    """Pairs of rows that share the same values. All use the same resamples and the same signs, so that each row is
    multiplied with those once, whatever the number of its pairs."""
    import numpy as np

    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    place = {name: i for i, name in enumerate(names)}
    prompts = {prompt: i for i, prompt in enumerate(dict.fromkeys(map(prompt_of, shared)))}
    where = np.array([prompts[prompt_of(key)] for key in shared])
    counts = np.bincount(where).astype(float)
    values = np.array([[rows[name][key] for key in shared] for name in names], dtype=float)
    sums = np.array([np.bincount(where, weights=own) for own in values])
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
        i, j = place[first], place[second]
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
    """How often each of n prompts is in each bootstrap resample: [RESAMPLES, n]; the resamples of `harness.stats`."""
    import numpy as np

    drawn = bootstrap_indices(n, RESAMPLES, 0)
    return np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(float)


def _signs(n: int) -> "np.ndarray":
    """Random signs of n prompts: [PERMUTATIONS, n]."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 2, size=(PERMUTATIONS, n)) * 2.0 - 1.0


def _p_value(difference: float, stderr: float, prompts: int, flipped: "np.ndarray") -> float:
    """How often a difference at least as large comes about when each prompt's may as well have had the other sign. The
    observed signs count as one of the draws, so that it is never 0. Where too few draws reach it to say how small it
    is, which Holm's correction over many pairs needs to know, that of the paired t test, from ENOUGH prompts on."""
    import numpy as np
    from scipy.stats import t

    # Differences that are equal but for rounding are equal.
    reached = np.abs(flipped) >= abs(difference) - 1e-9 * max(1.0, abs(difference))
    counted = int(reached.sum())
    p = (1 + counted) / (1 + len(flipped))
    if counted >= FEW or prompts < ENOUGH or stderr == 0:
        return p
    return min(p, float(2 * t.sf(abs(difference) / stderr, prompts - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): below alpha where the comparison is significant at a family-wise error of
    alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, reached = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = reached
    return adjusted


def detectable(stderr: float, prompts: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest true difference that a two-sided test at `alpha` finds with `power`, at this standard error."""
    from scipy.stats import t

    return float((t.ppf(1 - alpha / 2, prompts - 1) + t.ppf(power, prompts - 1)) * stderr)


def power_at(difference: float, stderr: float, prompts: int, alpha: float = ALPHA) -> float:
    """The probability that a two-sided test at `alpha` finds a true difference of this size."""
    from scipy.stats import nct, t

    critical, shift = t.ppf(1 - alpha / 2, prompts - 1), difference / stderr
    return float(nct.sf(critical, prompts - 1, shift) + nct.cdf(-critical, prompts - 1, shift))


def compare_resamples(
    first: str, second: str, values: tuple[float, float], resamples: "tuple[Sequence[float], Sequence[float]]", n: int
) -> Comparison:
    """Two figures that are no means (the length-controlled win rate, whose regression is fitted anew in each resample),
    from their values and their values in the same resamples of the same n prompts. `p`: two-sided, of the difference
    over its bootstrap standard error, as a normal variate."""
    import numpy as np
    from scipy.stats import norm

    one, other = (np.asarray(r, dtype=float) for r in resamples)
    apart = one - other
    stderr = float(apart.std(ddof=1))
    low, high = np.percentile(apart, [2.5, 97.5])
    unpaired = float(np.hypot(one.std(ddof=1), other.std(ddof=1)))
    difference = values[0] - values[1]
    p = float(2 * norm.sf(abs(difference) / stderr)) if stderr > 0 else float(difference == 0)
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
