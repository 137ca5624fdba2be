"""A training budget that is another training's, and the optimizer steps that come nearest to it.

Two methods on the same ranked data can differ in what a step holds and costs, and then a difference between their rows
may be the budget's and not the loss's. So a method may be given what another one used: as many optimizer steps, as many
prompts, or as many tokens put through the policy.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.errors import DataError
from harness.recipe import Match

REPORTED: dict[Match, str] = {"steps": "steps", "prompts": "prompts_seen", "tokens": "forward_tokens"}
"""Where a training's report says how much of a unit it used."""


class Budget(NamedTuple):
    """So many optimizer steps, prompts, or real (unpadded) input tokens of the policy's training forwards."""

    unit: Match
    amount: int


class Epoch(NamedTuple):
    """One pass over a method's data: its prompts, the input tokens of their rows, and the prompts of a whole step. The
    last step of a pass holds what is left."""

    prompts: int
    tokens: int
    batch_size: int

    @property
    def steps(self) -> int:
        """Optimizer steps of a pass."""
        return math.ceil(self.prompts / self.batch_size)

    def prompts_after(self, steps: int) -> int:
        """Prompts seen in so many steps, whole passes and the begun one."""
        passes, begun = divmod(steps, self.steps)
        return passes * self.prompts + min(begun * self.batch_size, self.prompts)


def used(report: Mapping[str, Any], unit: Match, training: str) -> Budget:
    """What a training used, by its report; `training` is its stage's id. Raises DataError for a report that did not
    count this, as those of earlier versions."""
    amount = report.get(REPORTED[unit])
    if not isinstance(amount, int):
        raise DataError(
            f"{training}: expected '{REPORTED[unit]}' in its report, to match {unit}; an older version made it: "
            "match steps instead, or train it anew: with another seed, or after removing its artifact from the store"
        )
    return Budget(unit, amount)


def steps_for(budget: Budget, epoch: Epoch) -> int:
    """The number of optimizer steps, at least one, whose use is nearest to the budget (of two as near, the smaller).

    Known before training starts, so that the learning rate's schedule ends where training does. Exact for steps. For
    tokens, a begun pass counts with its share of prompts: which of them come first is for the seed to say.
    """
    if budget.unit == "steps":
        return max(1, budget.amount)
    each = 1.0 if budget.unit == "prompts" else epoch.tokens / epoch.prompts
    passes = int(budget.amount // (each * epoch.prompts))
    near = range(max(1, passes * epoch.steps), (passes + 1) * epoch.steps + 1)
    return min(near, key=lambda steps: abs(epoch.prompts_after(steps) * each - budget.amount))
