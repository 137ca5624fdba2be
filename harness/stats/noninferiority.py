"""Non-inferiority of a new row to an old one, up to a margin: a paired, one-sided test (Wellek 2010, chapter 5)."""

from typing import Literal, NamedTuple

from harness.stats.bounds import FEWEST, SKEWED, Mean
from harness.stats.paired import detectable
from harness.stats.student import quantile

NonInferiorityOutcome = Literal["not worse", "worse", "inconclusive"]


class NonInferiority(NamedTuple):
    """A test result. `difference`: mean of new minus old. `lower`, `upper`: one-sided bounds, each at level 1 - alpha.
    `outcome`: `not worse` if the lower bound is above -margin, `worse` if the upper bound is below it. `settles`: the
    smallest margin that n prompts settle with 80 % power, if in truth the two are equal. `n`: prompts."""

    outcome: NonInferiorityOutcome
    difference: float
    lower: float
    upper: float
    n: int
    settles: float


def non_inferiority(mean: Mean, margin: float, alpha: float) -> NonInferiority:
    """The test on the mean of paired differences, new minus old. Fewer than FEWEST prompts settle nothing."""
    lower, upper = mean.bound(alpha, -1), mean.bound(alpha, 1)
    outcome: NonInferiorityOutcome = "inconclusive"
    if mean.n >= FEWEST:
        outcome = "not worse" if lower > -margin else "worse" if upper < -margin else "inconclusive"
    return NonInferiority(outcome, mean.value, lower, upper, mean.n, _settles(mean, alpha))


def _settles(mean: Mean, alpha: float) -> float:
    """From the power of a row that is equal, with the skewness that an unseen loss adds to the bound."""
    q, equal = quantile(1 - alpha, mean.degrees), mean._replace(value=mean.centre, third=0.0)
    size = detectable(mean, alpha)
    return size + (q * q + SKEWED) / 3 * equal.skew(-1, mean.centre - size)
