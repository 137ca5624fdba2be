"""Matching one training's budget to another's: the number of optimizer steps that comes nearest.

A step of two methods on the same ranked data can hold and cost different amounts. A difference between their rows may
then come from the budget rather than from the loss. So a method can be given the budget that another one used: the same
number of optimizer steps, prompts, or tokens put through the policy.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.errors import DataError
from harness.recipe.recipe import Match

REPORT_KEYS: dict[Match, str] = {"steps": "steps", "prompts": "prompts_seen", "tokens": "forward_tokens"}
"""The key of each unit's amount in a training's report."""


class Budget(NamedTuple):
    """An amount of optimizer steps, prompts, or real (unpadded) input tokens of the policy's training forwards."""

    unit: Match
    amount: int


class Epoch(NamedTuple):
    """One pass over a method's data: its prompts, the input tokens of their rows, and the prompts of a full step. The
    last step of a pass holds the remainder."""

    prompts: int
    tokens: int
    batch_size: int

    @property
    def steps(self) -> int:
        """Optimizer steps per pass."""
        return math.ceil(self.prompts / self.batch_size)

    def prompts_after(self, steps: int) -> int:
        """Prompts seen after `steps` steps, in full passes and the partial one."""
        passes, extra = divmod(steps, self.steps)
        return passes * self.prompts + min(extra * self.batch_size, self.prompts)


def budget_used(report: Mapping[str, Any], unit: Match, training: str) -> Budget:
    """The budget that a training used, from its report; `training` is its stage's id. Raises DataError for a report
    without that count, as written by earlier versions."""
    amount = report.get(REPORT_KEYS[unit])
    if not isinstance(amount, int):
        raise DataError(
            f"{training}: expected '{REPORT_KEYS[unit]}' in its report, to match {unit}; an older version wrote it: "
            "match steps instead, or train it again: with another seed, or after removing its artifact from the store"
        )
    return Budget(unit, amount)


def steps_for(budget: Budget, epoch: Epoch) -> int:
    """The number of optimizer steps, at least one, that comes nearest to the budget (the smaller one if two are equally
    near).

    It is computed before training starts, so that the learning-rate schedule ends where training does. Exact for steps.
    For tokens, a partial pass counts in proportion to its prompts, since the seed decides which of them come first.
    """
    if budget.unit == "steps":
        return max(1, budget.amount)
    unit_size = 1.0 if budget.unit == "prompts" else epoch.tokens / epoch.prompts
    passes = int(budget.amount // (unit_size * epoch.prompts))
    candidates = range(max(1, passes * epoch.steps), (passes + 1) * epoch.steps + 1)
    return min(candidates, key=lambda steps: abs(epoch.prompts_after(steps) * unit_size - budget.amount))
