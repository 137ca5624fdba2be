"""What a plan costs, all at once and cell by cell: what sharing saves can be told before anything runs."""

from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from harness.engine.stage import Estimate, Stage
from harness.engine.store import Store
from harness.memo import remembering
from harness.models.workload import device
from harness.pipeline.study import StudyPlan
from harness.servers.spending import JudgeCost
from harness.types import STAGE_KINDS, StageKind

START = 11.0
"""Seconds of a run beside its stages: libraries are imported, a board is drawn. As measured on two cores."""


class Cost(NamedTuple):
    """Seconds, tokens to generate, to train on and to score, calls of judges, and what those cost: dollars for replies
    of usual length, and at most (None: a price isn't known)."""

    seconds: float = 0.0
    generated: int = 0
    trained: int = 0
    scored: int = 0
    calls: int = 0
    dollars: float | None = 0.0
    at_most: float | None = 0.0

    def plus(self, other: "Cost") -> "Cost":
        return Cost(*(None if a is None or b is None else a + b for a, b in zip(self, other, strict=True)))  # type: ignore[arg-type]


class Estimates:
    """The costs of a plan's stages, each looked at once. `judging`: of the stages that ask a judge with a price."""

    def __init__(self, plan: StudyPlan, store: Store) -> None:
        self.plan = plan
        self._stages = {stage.key: stage for stage in plan.stages}
        self._judging: dict[object, JudgeCost | None] = {}
        self.store = store
        self._made = {key: artifact for key in self._stages if (artifact := store.find(key)) is not None}
        self.there = frozenset(self._made)

    @cached_property
    def of(self) -> dict[str, Estimate]:
        """By stage key. Of what has been generated already it is known how long it is."""
        with remembering():
            return {key: self._known(key, stage.estimate()) for key, stage in self._stages.items()}

    def _known(self, key: str, estimate: Estimate) -> Estimate:
        made = self._made.get(key)
        tokens = made.report.get("tokens") if made else None
        if not estimate.generated_tokens or not isinstance(tokens, int):
            return estimate
        share = tokens / estimate.generated_tokens
        return estimate._replace(generated_tokens=tokens, work=share * estimate.work)

    @cached_property
    def judging(self) -> dict[str, JudgeCost]:
        """What the stages that are still to run may pay judges, by key."""
        found = {}
        for key, stage in self._stages.items():
            if stage.judging and key not in self.there and (cost := self._judged(stage)):
                found[key] = cost
        return found

    def _judged(self, stage: Stage) -> JudgeCost | None:
        assert stage.judging
        answers = [needed.key for role, needed in stage.inputs.items() if role in ("answers", "reference")]
        if any(key in self.there for key in answers):
            return stage.judging(self.store)
        # Without the answers, stages of one judge and benchmark cost the same; a row against itself costs nothing.
        longest = [
            repr(s.params.get("sampling")) for role, s in stage.inputs.items() if role in ("answers", "reference")
        ]
        alike = (repr(sorted(stage.params.items())), *longest, len(set(answers)))
        if alike not in self._judging:
            self._judging[alike] = stage.judging(self.store)
        return self._judging[alike]

    def cost(self, keys: Iterable[str]) -> Cost:
        """Of these stages, one after the other. Of those that share a pool the largest has the work of all."""
        largest: dict[str, Estimate] = {}
        seconds, calls, dollars, at_most = 0.0, 0, 0.0, 0.0
        priced = capped = True
        for key in keys:
            stage, estimate = self._stages[key], self.of[key]
            seconds += STAGE_KINDS.get(stage.name, StageKind()).overhead
            calls += estimate.judge_calls
            pool = estimate.pool or key
            if pool not in largest or estimate[:2] + estimate[3:6] > largest[pool][:2] + largest[pool][3:6]:
                largest[pool] = estimate
            if judged := self.judging.get(key):
                priced, capped = priced and judged.dollars is not None, capped and judged.at_most is not None
                dollars += judged.dollars or 0.0
                at_most += judged.at_most or 0.0
            elif key in self._made and "dollars" in self._made[key].report:  # judged already, for so much
                paid = self._made[key].report["dollars"]
                priced, capped = priced and paid is not None, capped and paid is not None
                dollars += paid or 0.0
                at_most += paid or 0.0
        made = largest.values()
        seconds += sum(e.work for e in made) / device().peak + sum(e.waiting for e in made)
        return Cost(
            seconds,
            sum(e.generated_tokens for e in made),
            sum(e.trained_tokens for e in made),
            sum(e.scored_tokens for e in made),
            calls,
            dollars if priced else None,
            at_most if capped else None,
        )

    def cell(self, number: int) -> list[str]:
        """The stages of a cell."""
        return [stage.key for stage in self.plan.plans[number].stages]

    @cached_property
    def alone(self) -> list[Cost]:
        """What each cell would cost alone, from nothing, in a run of its own."""
        return [self.cost(self.cell(i)).plus(Cost(START)) for i in range(len(self.plan.plans))]

    @cached_property
    def together(self) -> Cost:
        """What all cells cost in one run, from nothing."""
        return self.cost(self._stages).plus(Cost(START))

    @cached_property
    def left(self) -> Cost:
        """What is still to be run of it."""
        keys = [key for key in self._stages if key not in self.there]
        return self.cost(keys).plus(Cost(START)) if keys else Cost()


def in_all(costs: Iterable[Cost]) -> Cost:
    """The sum."""
    found = Cost()
    for cost in costs:
        found = found.plus(cost)
    return found
