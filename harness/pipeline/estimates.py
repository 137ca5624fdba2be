"""Estimates the cost of a plan, for all cells together and for each alone, so that savings are known before a run."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import cached_property
from typing import NamedTuple

from harness.engine import engines
from harness.engine.stage import Estimate, Stage
from harness.engine.store import Store
from harness.errors import DataError
from harness.files import is_offline, offline
from harness.memo import remembering
from harness.models.demand.devices import device
from harness.models.demand.parts import unknown
from harness.pipeline.study import StudyPlan
from harness.servers.spending import JudgeCost
from harness.stage_kinds import STAGE_KINDS, StageKind

START = 11.0
"""Seconds of a run outside its stages, such as imports and writing the board, measured on two cores."""


class Cost(NamedTuple):
    """Seconds; tokens to generate, to train on and to score; judge calls. `dollars`: the price of those calls for
    replies of typical length; `at_most`: its upper bound. Both None if a price is unknown."""

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
    """The costs of a plan's stages, each computed once. `stored`: keys of the stages that the store has already.
    `unknown`: why a stage's cost is unknown, by key; it is in no sum."""

    def __init__(self, plan: StudyPlan, store: Store) -> None:
        self.plan = plan
        self._stages = {stage.key: stage for stage in plan.stages}
        self._judging: dict[object, JudgeCost | DataError | None] = {}
        self.store = store
        self._artifacts = {key: artifact for key in self._stages if (artifact := store.find(key)) is not None}
        self.stored = frozenset(self._artifacts)
        self.fetching = offline if is_offline() else nullcontext  # as when it was made

    @cached_property
    def of(self) -> dict[str, Estimate]:
        """Estimates by stage key. For texts that are generated already, the real number of tokens is used. Raises
        DataError for data that can't be read; offline, such a stage is unknown."""
        return {key: estimate for key, (estimate, _) in self._estimated.items()}

    @cached_property
    def unknown(self) -> dict[str, str]:
        return {key: reason for key, (_, reason) in self._estimated.items() if reason}

    @cached_property
    def _estimated(self) -> dict[str, tuple[Estimate, str]]:
        """By key, an estimate, and why it is unknown or incomplete."""
        with remembering(), self.fetching():
            return {key: self._estimate(key, stage) for key, stage in self._stages.items()}

    def _estimate(self, key: str, stage: Stage) -> tuple[Estimate, str]:
        try:
            estimate = self._with_real_tokens(key, stage.estimate())
        except DataError as error:
            if not is_offline():
                raise
            return Estimate(), str(error)
        models = unknown(estimate.loads)
        return estimate, f"the size of {', '.join(models)} is unknown" if models else ""

    def _with_real_tokens(self, key: str, estimate: Estimate) -> Estimate:
        artifact = self._artifacts.get(key)
        tokens = artifact.report.get("tokens") if artifact else None
        if not estimate.generated_tokens or not isinstance(tokens, int):
            return estimate
        share = tokens / estimate.generated_tokens
        return estimate._replace(generated_tokens=tokens, loads=tuple(load.times(share) for load in estimate.loads))

    @cached_property
    def judging(self) -> dict[str, JudgeCost]:
        """Judging costs of the stages still to run, by key; only for judges with a price."""
        costs = {}
        for key, stage in self._stages.items():
            if key in self.stored or key in self.unpriced or not stage.judging:
                continue
            if cost := self._judging_cost(stage):
                costs[key] = cost
        return costs

    @cached_property
    def unpriced(self) -> frozenset[str]:
        """The stages whose judge's cost is unknown offline, because it depends on questions that aren't here."""
        missing = set()
        with self.fetching():
            for key, stage in self._stages.items():
                if not (stage.judging and key not in self.stored and is_offline()):
                    continue
                try:
                    self._judging_cost(stage)
                except DataError:
                    missing.add(key)
        return frozenset(missing)

    def _judging_cost(self, stage: Stage) -> JudgeCost | None:
        assert stage.judging
        answers = [source.key for role, source in stage.inputs.items() if role in ("answers", "reference")]
        if any(key in self.stored for key in answers):
            return stage.judging(self.store)
        # Without the answers, stages with the same judge and benchmark cost the same. A row against itself costs
        # nothing.
        longest = [
            repr(s.params.get("sampling")) for role, s in stage.inputs.items() if role in ("answers", "reference")
        ]
        same_cost = (repr(sorted(stage.params.items())), *longest, len(set(answers)))
        if same_cost not in self._judging:
            self._judging[same_cost] = self._planned(stage.judging)
        if isinstance(planned := self._judging[same_cost], DataError):
            raise planned
        return planned

    def _planned(self, judging: Callable[[Store], JudgeCost | None]) -> JudgeCost | DataError | None:
        try:
            return judging(self.store)
        except DataError as error:  # kept: a file that isn't here is looked for once
            return error

    def cost(self, keys: Iterable[str]) -> Cost:
        """The cost of running these stages one after the other. Stages in one pool cost as much as the largest of
        them."""
        keys = list(keys)
        seconds, calls, dollars, at_most = 0.0, 0, 0.0, 0.0
        priced = capped = not self.unpriced.intersection(keys)
        for key in keys:
            seconds += STAGE_KINDS.get(self._stages[key].name, StageKind()).overhead
            calls += self.of[key].judge_calls
            if judged := self.judging.get(key):
                priced, capped = priced and judged.dollars is not None, capped and judged.at_most is not None
                dollars += judged.dollars or 0.0
                at_most += judged.at_most or 0.0
            elif key in self._artifacts and "dollars" in self._artifacts[key].report:  # judged already
                paid = self._artifacts[key].report["dollars"]
                priced, capped = priced and paid is not None, capped and paid is not None
                dollars += paid or 0.0
                at_most += paid or 0.0
        estimates = self.working(keys).values()
        seconds += sum(load.seconds(device()) or 0.0 for e in estimates for load in e.loads)
        seconds += sum(e.waiting for e in estimates)
        return Cost(
            seconds,
            sum(e.generated_tokens for e in estimates),
            sum(e.trained_tokens for e in estimates),
            sum(e.scored_tokens for e in estimates),
            calls,
            dollars if priced else None,
            at_most if capped else None,
        )

    def working(self, keys: Iterable[str]) -> dict[str, Estimate]:
        """The estimates of those of the stages that do the work: of the stages in one pool, the largest."""
        largest: dict[str, str] = {}
        for key in keys:
            pool = self.of[key].pool or key
            if pool not in largest or self.of[key].amount > self.of[largest[pool]].amount:
                largest[pool] = key
        return {key: self.of[key] for key in largest.values()}

    def cell(self, number: int) -> list[str]:
        """The keys of a cell's stages."""
        return [stage.key for stage in self.plan.plans[number].stages]

    @cached_property
    def alone(self) -> list[Cost]:
        """The cost of each cell in its own run, starting from an empty store."""
        return [self.cost(keys).plus(Cost(self._start(keys))) for keys in map(self.cell, range(len(self.plan.plans)))]

    @cached_property
    def together(self) -> Cost:
        """The cost of all cells in one run, starting from an empty store."""
        return self.cost(self._stages).plus(Cost(self._start(self._stages)))

    @cached_property
    def left(self) -> Cost:
        """The cost of the stages that the store does not have yet."""
        keys = [key for key in self._stages if key not in self.stored]
        return self.cost(keys).plus(Cost(self._start(keys))) if keys else Cost()

    @cached_property
    def starts(self) -> list[engines.Start]:
        """The engines that are started by the stages that the store does not have yet."""
        return list(engines.starts(stage for key, stage in self._stages.items() if key not in self.stored))

    def _start(self, keys: Iterable[str]) -> float:
        """Seconds of a run of stages that no stage counts."""
        return START + engines.START * len(list(engines.starts(self._stages[key] for key in keys)))


def total_cost(costs: Iterable[Cost]) -> Cost:
    """The sum of costs."""
    total = Cost()
    for cost in costs:
        total = total.plus(cost)
    return total
