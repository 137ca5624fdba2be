"""A sequential test of non-inferiority, valid at every n: one may look after each prompt, and stop when one likes.

Testing by betting (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting", sections 4
and B.3): against the hypothesis that the mean difference is at most -margin, a gambler bets on prompts that do better.
If the hypothesis holds, each stake's wealth is a non-negative supermartingale, and so is the mean over several stakes;
that it ever reaches 1 / alpha has a probability of at most alpha (Ville 1939). The other side is tested in the same
way. Stakes are fixed shares of the largest possible one, so that the order of prompts within a batch hardly matters.

Prompts are taken as independent draws, or as a random order of such: the order must not depend on outcomes.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

STAKES = tuple(0.99 * 2 ** (-k / 2) for k in range(12))
"""Shares of the largest stake that can't lose everything, from 0.99 to 0.02, with a twelfth of the wealth each."""
Outcome = Literal["not worse", "worse", "inconclusive"]


class Bounds(NamedTuple):
    """One-sided bounds of a mean difference, valid at every n."""

    lower: float
    upper: float


class Betting:
    """The test of one row against another, fed prompt by prompt. `reach`: the largest difference on a prompt, in either
    direction. Raises ValueError for a margin that is not below it."""

    def __init__(self, margin: float, reach: float, alpha: float) -> None:
        if not 0 <= margin < reach:
            raise ValueError(f"a margin of {margin:g} says nothing about differences of at most {reach:g}")
        self.outcome: Outcome = "inconclusive"
        self._reach, self._alpha = reach, alpha
        self._null = (reach - margin) / (2 * reach)
        self._wealth = [[1 / len(STAKES)] * len(STAKES) for _ in range(2)]
        self._seen: list[tuple[float, float]] = []

    @property
    def n(self) -> int:
        """Prompts that were seen, up to the one that settled it."""
        return len(self._seen)

    @property
    def difference(self) -> float:
        """The mean difference of the prompts that were seen, in the middle of what is missing."""
        return sum((low + high) / 2 for low, high in self._seen) / len(self._seen) if self._seen else 0.0

    @property
    def evidence(self) -> tuple[float, float]:
        """The wealth of who bets that the row is not worse than the margin, and of who bets that it is worse."""
        above, below = map(sum, self._wealth)
        return above, below

    def add(self, worst: float, best: float | None = None) -> Outcome:
        """A prompt's difference, new minus old; where verdicts are missing, the worst and the best that it could be. A
        settled test stays as it is."""
        best = worst if best is None else best
        if self.outcome == "inconclusive":
            low, high = self._unit(worst), self._unit(best)
            self._seen.append((worst, best))
            self._wealth[0] = _bet(self._wealth[0], low, self._null)
            self._wealth[1] = _bet(self._wealth[1], 1 - high, 1 - self._null)
            above, below = self.evidence
            if above >= 1 / self._alpha:
                self.outcome = "not worse"
            elif below >= 1 / self._alpha:
                self.outcome = "worse"
        return self.outcome

    def bounds(self) -> Bounds:
        """Bounds, each at level 1 - alpha at all n at once: what no bettor has won 1 / alpha against."""
        low = _lowest([self._unit(worst) for worst, _ in self._seen], self._alpha)
        high = 1 - _lowest([1 - self._unit(best) for _, best in self._seen], self._alpha)
        return Bounds(*((2 * x - 1) * self._reach for x in (low, high)))

    def _unit(self, difference: float) -> float:
        """A difference between -reach and reach as a value between 0 and 1."""
        return min(1.0, max(0.0, (difference / self._reach + 1) / 2))


def _bet(wealth: Sequence[float], value: float, null: float) -> list[float]:
    """The wealth of each stake after a value between 0 and 1, against a mean of at most `null`."""
    return [w * (1 + stake * (value / null - 1)) for w, stake in zip(wealth, STAKES, strict=True)]


def _lowest(values: Sequence[float], alpha: float) -> float:
    """The smallest mean that the values leave possible, by bisection: the wealth falls as the mean rises."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        wealth = [1 / len(STAKES)] * len(STAKES)
        reached = False
        for value in values:
            wealth = _bet(wealth, value, middle)
            if sum(wealth) >= 1 / alpha:
                reached = True
                break
        low, high = (middle, high) if reached else (low, middle)
    return low
