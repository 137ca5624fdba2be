"""How a judge's verdicts compare with recorded ones, each figure with its interval: percentile bootstrap over
instructions, since the verdicts on one instruction go up and down together. Pure functions.

A verdict here is the probability that the system's output is better than the reference's: above 0.5 the system has won,
at 0.5 it is a tie. Every pair was judged in both orders, and single verdicts are what is compared: a figure is what one
order, drawn at random, would give. Recorded ties count nowhere but in win rates; a judge's tie is half right.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.stats import bootstrap_indices, percentile_interval
from harness.types import Metric

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 1000


class Judged(NamedTuple):
    """A recorded pair as the judge saw it. `won`: recorded; `plain`: the judge's with the reference shown first, and
    `switched` with the output first; None: not had. Lengths in characters."""

    system: str
    instruction: str
    won: float
    plain: float | None
    switched: float | None
    reference_length: int
    length: int


class Columns(NamedTuple):
    """Judged pairs as arrays of one entry a pair; NaN: not had. `system`: its place in the alphabet. `longer`: of the
    output by so many characters."""

    system: "np.ndarray"
    won: "np.ndarray"
    plain: "np.ndarray"
    switched: "np.ndarray"
    longer: "np.ndarray"


def figures(pairs: Sequence[Judged], official: Mapping[str, float], *, resamples: int = RESAMPLES) -> dict[str, Metric]:
    """All figures by name; shares and win rates in percent. `official`: each system's whole recorded win rate.

    `agreement`, `balanced_agreement` (the mean of the shares of wins and of losses that were found), `auc`,
    `cohen_kappa`: of single verdicts with the recorded ones. `auc_within_systems`: how often the judge puts a won pair
    above a lost one of the same system; knowing which systems are good brings nothing here.
    `longer_balanced_agreement` and `longer_auc_within_systems` are what "the longer answer wins" reaches;
    `gain_over_longer` and `gain_over_longer_within_systems` are how far the judge is above that.
    `both_orders_balanced_agreement`: of the mean of the two verdicts. `consistency`: pairs whose winner is the same in
    both orders. `first_preferred`: verdicts for the answer that is shown first (50: no position bias).
    `longer_preferred`, `longer_preferred_recorded` and `length_bias`, their difference. `board_kendall_tau`,
    `board_slope`, `board_offset`: of the systems' win rates by the judge on those by the recorded verdicts.
    """
    import numpy as np

    names = sorted({p.system for p in pairs})
    rates = np.array([official[name] for name in names])
    columns = Columns(
        np.array([names.index(p.system) for p in pairs]),
        np.array([p.won for p in pairs], dtype=float),
        np.array([math.nan if p.plain is None else p.plain for p in pairs], dtype=float),
        np.array([math.nan if p.switched is None else p.switched for p in pairs], dtype=float),
        np.array([p.length - p.reference_length for p in pairs], dtype=float),
    )
    instructions = sorted({p.instruction for p in pairs})
    place = {instruction: i for i, instruction in enumerate(instructions)}
    rows_of: list[list[int]] = [[] for _ in instructions]
    for row, pair in enumerate(pairs):
        rows_of[place[pair.instruction]].append(row)
    clusters = [np.array(rows) for rows in rows_of]
    values = _all(columns, rates)
    drawn = bootstrap_indices(len(clusters), resamples if len(clusters) > 1 else 0, 0)
    samples = [_all(_rows(columns, np.concatenate([clusters[i] for i in chosen])), rates) for chosen in drawn]
    n, invalid = _counts(columns)
    return {name: _metric(value, [s[name] for s in samples], n, invalid) for name, value in values.items()}


def _rows(columns: Columns, rows: "np.ndarray") -> Columns:
    return Columns(*(column[rows] for column in columns))


def _counts(columns: Columns) -> tuple[int, int]:
    """(verdicts had, verdicts not had)"""
    import numpy as np

    missing = int(np.isnan(columns.plain).sum() + np.isnan(columns.switched).sum())
    return 2 * len(columns.won) - missing, missing


def _metric(value: float | None, samples: Sequence[float | None], n: int, invalid: int) -> Metric:
    import numpy as np

    had = [s for s in samples if s is not None]
    # A figure that most resamples lack (one system, no losses) has no interval worth the name.
    if value is None or len(had) < max(2, len(samples) // 2):
        return Metric(value=value, n=n, n_invalid=invalid)
    return Metric(value=value, stderr=float(np.std(had, ddof=1)), ci95=percentile_interval(had), n=n, n_invalid=invalid)


def _all(c: Columns, official: "np.ndarray") -> dict[str, float | None]:
    import numpy as np

    system, won = np.tile(c.system, 2), np.tile(c.won, 2)
    said, longer = np.concatenate([c.plain, c.switched]), np.tile(c.longer, 2)
    known = ~np.isnan(said) & (won != 0.5)
    label, verdict, group = won[known] > 0.5, said[known], system[known]
    by_length = _winner(longer[known], 0)
    both = (c.plain + c.switched) / 2
    settled = ~np.isnan(both) & (c.won != 0.5)
    own, base = balanced(label, _winner(verdict)), balanced(label, by_length)
    within, base_within = auc_within(label, verdict, group), auc_within(label, longer[known], group)
    return {
        "agreement": _percent(_credit(label, _winner(verdict))),
        "balanced_agreement": own,
        "auc": auc(label, verdict),
        "auc_within_systems": within,
        "cohen_kappa": kappa(label, _winner(verdict)),
        "longer_balanced_agreement": base,
        "longer_auc_within_systems": base_within,
        "gain_over_longer": _difference(own, base),
        "gain_over_longer_within_systems": _difference(within, base_within),
        "both_orders_balanced_agreement": balanced(c.won[settled] > 0.5, _winner(both[settled])),
        **_orders(c),
        **_lengths(won, said, longer),
        **_board(c, official),
    }


def _winner(values: "np.ndarray", middle: float = 0.5) -> "np.ndarray":
    """1 for the output, 0 for the reference, 0.5 for a tie."""
    import numpy as np

    winner: np.ndarray = (np.sign(values - middle) + 1) / 2
    return winner


def _credit(label: "np.ndarray", winner: "np.ndarray") -> "np.ndarray":
    """1 right, 0 wrong, 0.5 a tie."""
    import numpy as np

    credit: np.ndarray = 1 - np.abs(label - winner)
    return credit


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _percent(values: "np.ndarray") -> float | None:
    return float(values.mean() * 100) if len(values) else None


def balanced(label: "np.ndarray", winner: "np.ndarray") -> float | None:
    """Balanced accuracy in percent; None where nothing was won or nothing lost."""
    credit = _credit(label, winner)
    if label.all() or not label.any():
        return None
    return float(50 * (credit[label].mean() + credit[~label].mean()))


def kappa(label: "np.ndarray", winner: "np.ndarray") -> float | None:
    """Cohen's kappa; a tie of the judge's is half a verdict each way."""
    if not len(label):
        return None
    share, claimed = label.mean(), winner.mean()
    by_chance = share * claimed + (1 - share) * (1 - claimed)
    return None if by_chance == 1 else float((_credit(label, winner).mean() - by_chance) / (1 - by_chance))


def auc(label: "np.ndarray", verdict: "np.ndarray") -> float | None:
    """How often a won pair's verdict is above a lost one's (Mann-Whitney; equal ones are half)."""
    import numpy as np

    won, lost = verdict[label], np.sort(verdict[~label])
    if not len(won) or not len(lost):
        return None
    below = np.searchsorted(lost, won, "left") + np.searchsorted(lost, won, "right")
    return float(below.mean() / (2 * len(lost)))


def auc_within(label: "np.ndarray", verdict: "np.ndarray", system: "np.ndarray") -> float | None:
    """The same over won and lost pairs of one system each."""
    total, found = 0, 0.0
    for name in range(int(system.max()) + 1 if len(system) else 0):
        own = label[system == name]
        value = auc(own, verdict[system == name])
        if value is not None:
            pairs = int(own.sum()) * int((~own).sum())
            found, total = found + value * pairs, total + pairs
    return found / total if total else None


def _orders(c: Columns) -> dict[str, float | None]:
    import numpy as np

    both = ~np.isnan(c.plain) & ~np.isnan(c.switched)
    same = _winner(c.plain[both]) == _winner(c.switched[both])
    first = np.concatenate([1 - _winner(c.plain), _winner(c.switched)])
    return {"consistency": _percent(same), "first_preferred": _percent(first[~np.isnan(first)])}


def _lengths(won: "np.ndarray", said: "np.ndarray", longer: "np.ndarray") -> dict[str, float | None]:
    import numpy as np

    differ = ~np.isnan(said) & (longer != 0)
    by_length = longer[differ] > 0
    judge, recorded = (_percent(_credit(by_length, _winner(v[differ]))) for v in (said, won))
    return {
        "longer_preferred": judge,
        "longer_preferred_recorded": recorded,
        "length_bias": _difference(judge, recorded),
    }


def _board(c: Columns, official: "np.ndarray") -> dict[str, float | None]:
    import numpy as np

    system, said = np.tile(c.system, 2), np.concatenate([c.plain, c.switched])
    known = ~np.isnan(said)
    counts = np.bincount(system[known], minlength=len(official))
    there = counts > 0
    own = 100 * np.bincount(system[known], said[known], len(official))[there] / counts[there]
    theirs = official[there]
    slope = offset = None
    if len(theirs) and theirs.min() < theirs.max():
        slope = float(np.cov(theirs, own)[0, 1] / theirs.var(ddof=1))
        offset = float(own.mean() - slope * theirs.mean())
    tau = kendall(theirs, own) if len(own) > 2 else None
    return {"board_kendall_tau": tau, "board_slope": slope, "board_offset": offset}


def kendall(one: "np.ndarray", other: "np.ndarray") -> float | None:
    """Kendall's tau-b; None where one of them is constant. For a handful of values, a thousand times over."""
    import numpy as np

    ones, others = (np.sign(values[:, None] - values) for values in (one, other))
    scale = float(np.sqrt((ones**2).sum() * (others**2).sum()))
    return float((ones * others).sum() / scale) if scale else None
