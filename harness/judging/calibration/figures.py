"""How a judge's verdicts compare with recorded ones: each figure is measured within each system, then averaged over
them. All count alike, unless they have too few wins or losses to be measured. So a judge gains nothing by knowing which
systems are good. Pure functions.

A verdict here is the probability that the system's output is better than the reference's: above 0.5 the system wins, at
0.5 it is a tie. Every pair was judged in both orders. Recorded ties count only in win rates; a judge's tie counts as
half right.

Instructions are resampled all at once, since verdicts on the same instruction are correlated.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.judging.calibration.averages import CalibrationFigure, Column, over_systems, weights_of
from harness.stats.agreement import kendall_tau
from harness.stats.hierarchy import FEWEST_POINTS, line
from harness.stats.intervals import bootstrap_indices

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


class SystemPairs(NamedTuple):
    """A system's judged pairs as arrays; NaN: no verdict. `instruction`: its index. `score`: the mean of both verdicts.
    `longer`: by how many characters the output is longer than the reference."""

    instruction: "np.ndarray"
    won: "np.ndarray"
    plain: "np.ndarray"
    switched: "np.ndarray"
    score: "np.ndarray"
    longer: "np.ndarray"


class Sample(NamedTuple):
    """All judged pairs by system, in alphabetical order, and how often each instruction is in each resample:
    [1 + resamples, instructions]. The first row is the sample itself."""

    systems: dict[str, SystemPairs]
    weights: "np.ndarray"


def arranged(pairs: Sequence[JudgedPair], resamples: int = RESAMPLES) -> Sample:
    """Judged pairs as arrays, with the resamples of their instructions."""
    import numpy as np

    instructions = {name: i for i, name in enumerate(sorted({p.instruction for p in pairs}))}
    systems = {}
    for system in sorted({p.system for p in pairs}):
        own = [p for p in pairs if p.system == system]
        plain, switched = (
            np.array([math.nan if v is None else v for v in verdicts], dtype=float)
            for verdicts in ([p.plain for p in own], [p.switched for p in own])
        )
        systems[system] = SystemPairs(
            np.array([instructions[p.instruction] for p in own]),
            np.array([p.won for p in own], dtype=float),
            plain,
            switched,
            (plain + switched) / 2,
            np.array([p.length - p.reference_length for p in own], dtype=float),
        )
    n = len(instructions)
    weights = np.ones((1, n))
    if n > 1:
        drawn = bootstrap_indices(n, resamples, 0)
        weights = np.vstack([weights, *(np.bincount(row, minlength=n)[None] for row in drawn)])
    return Sample(systems, weights)


def calibration_figures(sample: Sample, official: Mapping[str, float]) -> dict[str, CalibrationFigure]:
    """All figures by name, in percent. `official`: each system's full recorded win rate.

    `agreement`: how often the judge scores one of a system's won answers above one of its lost answers (the area under
    the ROC curve; 50: chance). `longer_agreement`: what "the longer answer wins" achieves; `gain_over_longer`: how far
    the judge is above that. `balanced_agreement`: the mean of the shares of wins and of losses on which single verdicts
    agree. `consistency`: pairs with the same winner in both orders. `first_preferred`: verdicts for the answer that is
    shown first (50: no position bias). `longer_preferred`, `longer_preferred_recorded` and `length_bias`, their
    difference. `board_slope` (with Student's interval) and `board_kendall_tau`: of the systems' win rates by the judge
    on those by the recorded verdicts; None with fewer than FEWEST_POINTS systems.
    """
    by_name: dict[str, list[Column]] = {}
    for system in sample.systems.values():
        for name, column in _of_system(system, sample.weights[:, system.instruction]).items():
            by_name.setdefault(name, []).append(column)
    missing = sum(int((s.plain != s.plain).sum() + (s.switched != s.switched).sum()) for s in sample.systems.values())
    n = 2 * sum(len(s.won) for s in sample.systems.values()) - missing
    # What compares wins with losses counts a system that has hardly any wins as little in one figure as in another.
    shares = weights_of(by_name["agreement"])
    figures = {
        name: over_systems(
            columns,
            (-100.0, 100.0) if name in DIFFERENCES else (0.0, 100.0),
            shares if name in OF_WINS_AND_LOSSES else None,
            n,
            missing,
        )
        for name, columns in by_name.items()
    }
    return figures | _board(sample, official, n, missing)


DIFFERENCES = ("gain_over_longer", "length_bias")
OF_WINS_AND_LOSSES = ("agreement", "longer_agreement", "gain_over_longer", "balanced_agreement")


def agreement_within(system: SystemPairs) -> float | None:
    """The judge's agreement within one system, in percent; None without any win or without any loss."""
    import numpy as np

    column = _of_system(system, np.ones((1, len(system.won))))["agreement"]
    return float(column.values[0]) if column.is_measured else None


def _of_system(s: SystemPairs, weights: "np.ndarray") -> dict[str, Column]:
    """Each figure of a system in the sample and its resamples. `weights`: [1 + resamples, pairs]."""
    import numpy as np

    decided = ~np.isnan(s.score) & (s.won != 0.5)
    label, counted = s.won[decided] > 0.5, weights[:, decided]
    rarer = int(min(label.sum(), (~label).sum()))
    by_judge, by_length = (auc(label, values[decided], counted) for values in (s.score, s.longer))
    same = np.where(np.isnan(s.score), math.nan, winner(s.plain) == winner(s.switched))
    both_weights = np.hstack([weights, weights])
    verdicts, won, longer = np.concatenate([s.plain, s.switched]), np.tile(s.won, 2), np.tile(s.longer, 2)
    first = np.concatenate([1 - winner(s.plain), winner(s.switched)])
    preferred, recorded = (
        np.where(np.isnan(verdicts) | (longer == 0), math.nan, credit(longer > 0, winner(values)))
        for values in (verdicts, won)
    )
    columns = {
        "agreement": Column(by_judge, rarer),
        "longer_agreement": Column(by_length, rarer),
        "gain_over_longer": Column(by_judge - by_length, rarer),
        "balanced_agreement": Column(balanced(won, verdicts, both_weights), rarer),
    }
    for name, values, w in (
        ("consistency", same, weights),
        ("first_preferred", first, both_weights),
        ("longer_preferred", preferred, both_weights),
        ("longer_preferred_recorded", recorded, both_weights),
        ("length_bias", preferred - recorded, both_weights),
    ):
        columns[name] = Column(weighted_mean(100 * values, w), int((~np.isnan(values)).sum()))
    return columns


def winner(values: "np.ndarray") -> "np.ndarray":
    """1 for the output, 0 for the reference, 0.5 for a tie, NaN for no verdict."""
    import numpy as np

    signs: np.ndarray = (np.sign(values - 0.5) + 1) / 2
    return signs


def credit(label: "np.ndarray", claimed: "np.ndarray") -> "np.ndarray":
    """1: right, 0: wrong, 0.5: a tie."""
    import numpy as np

    found: np.ndarray = 1 - np.abs(label - claimed)
    return found


def weighted_mean(values: "np.ndarray", weights: "np.ndarray") -> "np.ndarray":
    """The mean of the values that are not NaN, for each row of weights; NaN where they weigh nothing."""
    import numpy as np

    there = ~np.isnan(values)
    totals = weights[:, there].sum(axis=1)
    sums = weights[:, there] @ values[there]
    means: np.ndarray = np.where(totals > 0, sums / np.where(totals > 0, totals, 1), math.nan)
    return means


def balanced(won: "np.ndarray", verdicts: "np.ndarray", weights: "np.ndarray") -> "np.ndarray":
    """Balanced accuracy of verdicts in percent, for each row of weights; NaN without any win or without any loss."""
    import numpy as np

    right = credit(won > 0.5, winner(verdicts))
    recalls = [weighted_mean(np.where(side, right, math.nan), weights) for side in (won > 0.5, won < 0.5)]
    found: np.ndarray = 50 * (recalls[0] + recalls[1])
    return found


def auc(label: "np.ndarray", score: "np.ndarray", weights: "np.ndarray") -> "np.ndarray":
    """How often a won pair's score is above a lost one's, in percent (Mann-Whitney; a tie is half), for each row of
    weights; NaN without any won or any lost pair."""
    import numpy as np

    if not len(label):
        return np.full(len(weights), math.nan)
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-math.inf) > 0)
    won, lost = (np.add.reduceat(weights[:, order] * side[order], starts, axis=1) for side in (label, ~label))
    below = np.cumsum(lost, axis=1) - lost / 2
    possible = won.sum(axis=1) * lost.sum(axis=1)
    found: np.ndarray = np.where(
        possible > 0, 100 * (won * below).sum(axis=1) / np.where(possible > 0, possible, 1), math.nan
    )
    return found


def _board(sample: Sample, official: Mapping[str, float], n: int, n_invalid: int) -> dict[str, CalibrationFigure]:
    import numpy as np

    rates = {name: np.concatenate([s.plain, s.switched]) for name, s in sample.systems.items()}
    judge = {name: 100 * float(np.nanmean(v)) for name, v in rates.items() if not np.isnan(v).all()}
    recorded = [official[name] for name in judge]
    found = line(recorded, list(judge.values())) if len(judge) >= FEWEST_POINTS else None
    counts = {"n": n, "n_invalid": n_invalid, "systems": len(judge)}
    if found is None:
        return {name: CalibrationFigure(value=None, **counts) for name in ("board_slope", "board_kendall_tau")}
    tau = kendall_tau(recorded, list(judge.values()))
    return {
        "board_slope": CalibrationFigure(value=found.slope, ci95=found.slope_interval, **counts),
        "board_kendall_tau": CalibrationFigure(value=tau, **counts),
    }
