"""How a judge's verdicts compare with recorded ones. Each figure has an interval, by percentile bootstrap over
instructions, since verdicts on the same instruction are correlated. Pure functions.

A verdict here is the probability that the system's output is better than the reference's: above 0.5 the system wins, at
0.5 it is a tie. Every pair was judged in both orders, and single verdicts are compared: a figure is what one order,
drawn at random, would give. Recorded ties count only in win rates; a judge's tie counts as half right.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.stats.intervals import bootstrap_indices, percentile_interval
from harness.types import Metric

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 1000


class JudgedPair(NamedTuple):
    """A recorded pair with the judge's verdicts. `won`: the recorded verdict; `plain`: the judge's with the reference
    shown first, `switched`: with the output first; None: no verdict. Lengths in characters."""

    system: str
    instruction: str
    won: float
    plain: float | None
    switched: float | None
    reference_length: int
    length: int


class PairArrays(NamedTuple):
    """Judged pairs as arrays with one entry per pair; NaN: no verdict. `system`: its index in alphabetical order.
    `longer`: by how many characters the output is longer than the reference."""

    system: "np.ndarray"
    won: "np.ndarray"
    plain: "np.ndarray"
    switched: "np.ndarray"
    longer: "np.ndarray"


def calibration_figures(
    pairs: Sequence[JudgedPair], official: Mapping[str, float], *, resamples: int = RESAMPLES
) -> dict[str, Metric]:
    """All figures by name; shares and win rates in percent. `official`: each system's full recorded win rate.

    `agreement`, `balanced_agreement` (the mean of the recalls of wins and of losses), `auc`, `cohen_kappa`: of single
    verdicts with the recorded ones. `auc_within_systems`: how often the judge scores a won pair above a lost one of the
    same system; knowing which systems are good doesn't help here. `longer_balanced_agreement` and
    `longer_auc_within_systems`: what "the longer answer wins" achieves; `gain_over_longer` and
    `gain_over_longer_within_systems`: how far the judge is above that. `both_orders_balanced_agreement`: of the mean of
    the two verdicts. `consistency`: pairs with the same winner in both orders. `first_preferred`: verdicts for the
    answer that is shown first (50: no position bias). `longer_preferred`, `longer_preferred_recorded` and
    `length_bias`, their difference. `board_kendall_tau`, `board_slope`, `board_offset`: of the systems' win rates by
    the judge on those by the recorded verdicts.
    """
    import numpy as np

    names = sorted({p.system for p in pairs})
    rates = np.array([official[name] for name in names])
    arrays = PairArrays(
        np.array([names.index(p.system) for p in pairs]),
        np.array([p.won for p in pairs], dtype=float),
        np.array([math.nan if p.plain is None else p.plain for p in pairs], dtype=float),
        np.array([math.nan if p.switched is None else p.switched for p in pairs], dtype=float),
        np.array([p.length - p.reference_length for p in pairs], dtype=float),
    )
    instructions = sorted({p.instruction for p in pairs})
    index = {instruction: i for i, instruction in enumerate(instructions)}
    rows_of: list[list[int]] = [[] for _ in instructions]
    for row, pair in enumerate(pairs):
        rows_of[index[pair.instruction]].append(row)
    clusters = [np.array(rows) for rows in rows_of]
    values = _all_figures(arrays, rates)
    resampled = bootstrap_indices(len(clusters), resamples if len(clusters) > 1 else 0, 0)
    samples = [
        _all_figures(_rows(arrays, np.concatenate([clusters[i] for i in chosen])), rates) for chosen in resampled
    ]
    n, invalid = _counts(arrays)
    return {name: _metric(value, [s[name] for s in samples], n, invalid) for name, value in values.items()}


def _rows(arrays: PairArrays, rows: "np.ndarray") -> PairArrays:
    return PairArrays(*(array[rows] for array in arrays))


def _counts(arrays: PairArrays) -> tuple[int, int]:
    """(number of verdicts, number of missing verdicts)"""
    import numpy as np

    missing = int(np.isnan(arrays.plain).sum() + np.isnan(arrays.switched).sum())
    return 2 * len(arrays.won) - missing, missing


def _metric(value: float | None, samples: Sequence[float | None], n: int, invalid: int) -> Metric:
    import numpy as np

    defined = [s for s in samples if s is not None]
    # If most resamples lack a figure (one system, no losses), its interval would mean nothing.
    if value is None or len(defined) < max(2, len(samples) // 2):
        return Metric(value=value, n=n, n_invalid=invalid)
    stderr = float(np.std(defined, ddof=1))
    return Metric(value=value, stderr=stderr, ci95=percentile_interval(defined), n=n, n_invalid=invalid)


def _all_figures(c: PairArrays, official: "np.ndarray") -> dict[str, float | None]:
    import numpy as np

    system, won = np.tile(c.system, 2), np.tile(c.won, 2)
    verdicts, longer = np.concatenate([c.plain, c.switched]), np.tile(c.longer, 2)
    counted = ~np.isnan(verdicts) & (won != 0.5)
    label, verdict, group = won[counted] > 0.5, verdicts[counted], system[counted]
    by_length = _winner(longer[counted], 0)
    mean = (c.plain + c.switched) / 2
    both = ~np.isnan(mean) & (c.won != 0.5)
    by_judge, baseline = balanced(label, _winner(verdict)), balanced(label, by_length)
    within, baseline_within = auc_within(label, verdict, group), auc_within(label, longer[counted], group)
    return {
        "agreement": _percent(_credit(label, _winner(verdict))),
        "balanced_agreement": by_judge,
        "auc": auc(label, verdict),
        "auc_within_systems": within,
        "cohen_kappa": kappa(label, _winner(verdict)),
        "longer_balanced_agreement": baseline,
        "longer_auc_within_systems": baseline_within,
        "gain_over_longer": _difference(by_judge, baseline),
        "gain_over_longer_within_systems": _difference(within, baseline_within),
        "both_orders_balanced_agreement": balanced(c.won[both] > 0.5, _winner(mean[both])),
        **_orders(c),
        **_lengths(won, verdicts, longer),
        **_board(c, official),
    }


def _winner(values: "np.ndarray", middle: float = 0.5) -> "np.ndarray":
    """1 for the output, 0 for the reference, 0.5 for a tie."""
    import numpy as np

    winner: np.ndarray = (np.sign(values - middle) + 1) / 2
    return winner


def _credit(label: "np.ndarray", winner: "np.ndarray") -> "np.ndarray":
    """1: right, 0: wrong, 0.5: a tie."""
    import numpy as np

    credit: np.ndarray = 1 - np.abs(label - winner)
    return credit


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _percent(values: "np.ndarray") -> float | None:
    return float(values.mean() * 100) if len(values) else None


def balanced(label: "np.ndarray", winner: "np.ndarray") -> float | None:
    """Balanced accuracy in percent; None without any win or without any loss."""
    credit = _credit(label, winner)
    if label.all() or not label.any():
        return None
    return float(50 * (credit[label].mean() + credit[~label].mean()))


def kappa(label: "np.ndarray", winner: "np.ndarray") -> float | None:
    """Cohen's kappa; a judge's tie counts half for each side."""
    if not len(label):
        return None
    recorded, judge = label.mean(), winner.mean()
    by_chance = recorded * judge + (1 - recorded) * (1 - judge)
    return None if by_chance == 1 else float((_credit(label, winner).mean() - by_chance) / (1 - by_chance))


def auc(label: "np.ndarray", verdict: "np.ndarray") -> float | None:
    """How often a won pair's verdict is above a lost one's (Mann-Whitney; a tie is half)."""
    import numpy as np

    won, lost = verdict[label], np.sort(verdict[~label])
    if not len(won) or not len(lost):
        return None
    below = np.searchsorted(lost, won, "left") + np.searchsorted(lost, won, "right")
    return float(below.mean() / (2 * len(lost)))


def auc_within(label: "np.ndarray", verdict: "np.ndarray", system: "np.ndarray") -> float | None:
    """The same, comparing only pairs of the same system."""
    total, weighted = 0, 0.0
    for i in range(int(system.max()) + 1 if len(system) else 0):
        labels = label[system == i]
        value = auc(labels, verdict[system == i])
        if value is not None:
            pairs = int(labels.sum()) * int((~labels).sum())
            weighted, total = weighted + value * pairs, total + pairs
    return weighted / total if total else None


def _orders(c: PairArrays) -> dict[str, float | None]:
    import numpy as np

    both = ~np.isnan(c.plain) & ~np.isnan(c.switched)
    same = _winner(c.plain[both]) == _winner(c.switched[both])
    first = np.concatenate([1 - _winner(c.plain), _winner(c.switched)])
    return {"consistency": _percent(same), "first_preferred": _percent(first[~np.isnan(first)])}


def _lengths(won: "np.ndarray", verdicts: "np.ndarray", longer: "np.ndarray") -> dict[str, float | None]:
    import numpy as np

    counted = ~np.isnan(verdicts) & (longer != 0)
    by_length = longer[counted] > 0
    judge, recorded = (_percent(_credit(by_length, _winner(v[counted]))) for v in (verdicts, won))
    return {
        "longer_preferred": judge,
        "longer_preferred_recorded": recorded,
        "length_bias": _difference(judge, recorded),
    }


def _board(c: PairArrays, official: "np.ndarray") -> dict[str, float | None]:
    import numpy as np

    system, verdicts = np.tile(c.system, 2), np.concatenate([c.plain, c.switched])
    valid = ~np.isnan(verdicts)
    counts = np.bincount(system[valid], minlength=len(official))
    covered = counts > 0
    judge = 100 * np.bincount(system[valid], verdicts[valid], len(official))[covered] / counts[covered]
    recorded = official[covered]
    slope = offset = None
    if len(recorded) and recorded.min() < recorded.max():
        slope = float(np.cov(recorded, judge)[0, 1] / recorded.var(ddof=1))
        offset = float(judge.mean() - slope * recorded.mean())
    tau = kendall(recorded, judge) if len(judge) > 2 else None
    return {"board_kendall_tau": tau, "board_slope": slope, "board_offset": offset}


def kendall(one: "np.ndarray", other: "np.ndarray") -> float | None:
    """Kendall's tau-b; None if one of the arrays is constant. Fast for a few values, since it runs a thousand times."""
    import numpy as np

    ones, others = (np.sign(values[:, None] - values) for values in (one, other))
    scale = float(np.sqrt((ones**2).sum() * (others**2).sum()))
    return float((ones * others).sum() / scale) if scale else None
