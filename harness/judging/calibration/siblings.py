"""How a judge compares systems with each other, on the instructions that it judged of both: what boards use it for."""

import math
from collections.abc import Mapping
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from harness.judging.calibration.averages import CalibrationFigure, Column, over_systems, weights_of
from harness.judging.calibration.figures import Sample, SystemPairs, weighted_mean
from harness.stats.bounds import FEWEST
from harness.stats.student import quantile
from harness.types import Record

if TYPE_CHECKING:
    import numpy as np


class SystemComparison(Record):
    """Two systems' win rates in percentage points, `better` minus `worse`: of their full recorded ones (`official`,
    above zero), and by this judge on `prompts` instructions of both, with Student's 95 % interval over them.
    `siblings`: no other system's official win rate is between theirs."""

    better: str
    worse: str
    official: float
    judge: float
    ci95: tuple[float, float] | None
    prompts: int
    siblings: bool

    @property
    def is_significant(self) -> bool:
        """Whether this judge calls one of them significantly better, at the 5 % level."""
        return self.ci95 is not None and not self.ci95[0] <= 0 <= self.ci95[1]


def compared(sample: Sample, official: Mapping[str, float]) -> list[SystemComparison]:
    """All pairs of systems that the official judge rates differently."""
    ranked = sorted(sample.systems, key=lambda name: -official[name])
    neighbours = set(pairwise(ranked))
    found = []
    for better, worse in combinations(ranked, 2):
        ours, theirs = _on_both(sample.systems[better], sample.systems[worse])
        differences = ours.score - theirs.score
        differences = 100 * differences[differences == differences]
        if official[better] == official[worse] or not len(differences):
            continue
        mean, n = float(differences.mean()), len(differences)
        ci95 = None
        if n >= FEWEST:
            reach = quantile(0.975, n - 1) * float(differences.std(ddof=1)) / math.sqrt(n)
            ci95 = mean - reach, mean + reach
        found.append(
            SystemComparison(
                better=better,
                worse=worse,
                official=official[better] - official[worse],
                judge=mean,
                ci95=ci95,
                prompts=n,
                siblings=(better, worse) in neighbours,
            )
        )
    return found


def sibling_agreement(sample: Sample, official: Mapping[str, float]) -> CalibrationFigure:
    """On instructions where one of two siblings won against the reference and the other lost: how often the judge
    scores the one that won higher, in percent. Both directions count the same, so that knowing the better system is
    worth nothing; averaged over pairs of siblings."""
    ranked = sorted(sample.systems, key=lambda name: -official[name])
    columns, prompts = [], 0
    for better, worse in pairwise(ranked):
        ours, theirs = _on_both(sample.systems[better], sample.systems[worse])
        column, count, n = _sign_agreement(ours, theirs, sample.weights)
        columns.append(Column(column, count))
        prompts += n
    figure = over_systems(columns, (0.0, 100.0), weights_of(columns), prompts, 0)
    return figure.model_copy(update={"ci95": None})  # neighbouring pairs share a system: they are no sample of pairs


def _on_both(one: SystemPairs, other: SystemPairs) -> tuple[SystemPairs, SystemPairs]:
    """The pairs of two systems on their common instructions, in the same order."""
    import numpy as np

    _, here, there = np.intersect1d(one.instruction, other.instruction, return_indices=True)
    return SystemPairs(*(column[here] for column in one)), SystemPairs(*(column[there] for column in other))


def _sign_agreement(ours: SystemPairs, theirs: SystemPairs, weights: "np.ndarray") -> tuple["np.ndarray", int, int]:
    """(the agreement in the sample and its resamples, the number of instructions in the rarer direction, in both)"""
    import numpy as np

    difference = ours.score - theirs.score
    right = (np.sign(difference) + 1) / 2
    own = weights[:, ours.instruction]
    up = (ours.won > 0.5) & (theirs.won < 0.5) & ~np.isnan(difference)
    down = (ours.won < 0.5) & (theirs.won > 0.5) & ~np.isnan(difference)
    recalls = [
        weighted_mean(np.where(side, credit, math.nan), own) for side, credit in ((up, right), (down, 1 - right))
    ]
    return 50 * (recalls[0] + recalls[1]), int(min(up.sum(), down.sum())), int(up.sum() + down.sum())
