"""Runs a plan's stages on a Ray cluster, as many at a time as their inputs and the nodes' resources allow.

Every stage is a task with declared CPUs, GPUs and memory, on a store shared by all nodes. Stages that add to the same
journals run one after the other in the plan's order, so that the board equals that of a run in one process. The stages
of a lost node are run again on another one.

A stage over prompts is spread: workers on all nodes that have its resources do its shards, and its task, which holds
no resources, stays beside the driver. Models in process then decode other batches than in one process, which may round
differently; what servers write, and all that is not a model's, is the same.
"""

import logging
import os
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from typing import Any

from harness.engine import interrupts
from harness.engine.cluster.connect import connected
from harness.engine.cluster.process import Inbox, Order, lost
from harness.engine.cluster.work import StageOutcome, work
from harness.engine.execute import ExecutionResult, HasStages, Overview, StagePosition, sound_artifacts, threads
from harness.engine.resources import Resources, declared
from harness.engine.stage import Progress, Stage
from harness.engine.store import Store
from harness.errors import HarnessError
from harness.servers.spending import Spending
from harness.stage_kinds import STAGE_KINDS
from harness.trackers.tracked import settings

log = logging.getLogger("harness")

RETRIES = 3
"""How often a stage is run again after its node was lost."""
POLL = 0.2
AT_ONCE = 4
"""Stages with shards that run at the same time."""
PASSED = (
    "HARNESS_HOME",
    "HARNESS_ALLOW_HOSTS",
    "OMP_NUM_THREADS",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HF_HUB_DISABLE_TELEMETRY",
    "OMP_WAIT_POLICY",
    "TQDM_DISABLE",
)
"""Environment variables that workers get from the driver, besides those of trackers. Keys and tokens must be set on the
nodes themselves."""


def execute_on_ray(
    plan: HasStages,
    store: Store,
    view: Overview,
    spending: Spending,
    address: str,
    resources: Mapping[str, Resources],
) -> ExecutionResult:
    """Run missing stages on the cluster at `address`, or (`local`) on one started on this machine for the duration of
    the run. `resources`: by kind of stage, `default` for the others. Raises what a stage raises, and HarnessError if
    there is no cluster or no node has the resources of a stage."""
    with connected(address) as ray:
        return _Executor(ray, plan.stages, store, view, spending, resources).run()


class _Executor:
    """One run of a plan on a cluster."""

    def __init__(
        self,
        ray: Any,
        stages: Sequence[Stage],
        store: Store,
        view: Overview,
        spending: Spending,
        resources: Mapping[str, Resources],
    ) -> None:
        self.ray, self.stages, self.store, self.view = ray, stages, store, view
        self.spending, self.resources = spending, resources
        self.position = {stage.key: StagePosition(i, len(stages)) for i, stage in enumerate(stages, 1)}
        self.by_key = {stage.key: stage for stage in stages}
        self.artifacts = sound_artifacts(stages, store)
        self.waiting_for = _dependencies(stages, self.artifacts.keys(), spending.limit is not None)
        self.passed = {name: os.environ[name] for name in PASSED if name in os.environ} | settings()
        self.running: dict[Any, str] = {}
        self.spread: set[str] = set()
        self.lost: dict[str, int] = {}
        self.reported_spending: dict[str, tuple[float, int, int]] = {}
        self.bars: dict[str, Progress] = {}
        self.ran = 0

    def run(self) -> ExecutionResult:
        ray = self.ray
        self._check_resources()
        # What reserves no CPUs runs on this node, and lives as long as the driver. (A soft affinity is not kept.)
        self.here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self.inbox = ray.remote(num_cpus=0)(Inbox).options(scheduling_strategy=self.here).remote()
        self.task = ray.remote(max_retries=0)(work)
        try:
            while len(self.artifacts) < len(self.stages):
                self._submit()
                done, _ = ray.wait(list(self.running), num_returns=1, timeout=POLL)
                interrupts.check()
                self._listen()
                for ref in done:
                    self._finish(ref)
        finally:
            for ref in self.running:
                with suppress(ray.exceptions.RayError, RuntimeError, ValueError):  # the cluster may be gone
                    ray.cancel(ref, force=True)
        return ExecutionResult(self.artifacts, self.ran)

    def _submit(self) -> None:
        """Submit all stages without unfinished dependencies."""
        free = [key for key, needed in self.waiting_for.items() if not needed]
        at_once = len(self.running) + len(free)
        for key in sorted(free, key=lambda k: self.position[k].number):
            stage = self.by_key[key]
            workers = self._workers(stage, self._needed(stage), at_once)
            # The tasks of spread stages are all on this node, and their shards are done by the same workers anyway.
            if workers and len(self.spread & set(self.running.values())) >= AT_ONCE:
                continue
            del self.waiting_for[key]
            self._send(stage, workers)

    def _send(self, stage: Stage, workers: int) -> None:
        """`workers`: that share the stage; 0: its task does all."""
        needed = self._needed(stage)
        limit = self.spending.limit
        order = Order(
            stage,
            self.store.root.absolute(),
            self.position[stage.key],
            self.passed,
            None if limit is None else max(0.0, limit - self.spending.spent),
            self.spending.prices,
            threads(declared(self.resources, stage.name)),
            needed,
            workers,
        )
        (self.spread.add if workers else self.spread.discard)(stage.key)
        if not workers:
            task = self.task.options(
                num_cpus=needed.cpus, num_gpus=needed.gpus, memory=needed.memory or None, name=stage.id
            )
        else:
            task = self.task.options(num_cpus=0, scheduling_strategy=self.here, name=stage.id)
        self.running[task.remote(order, self.inbox)] = stage.key

    def _finish(self, ref: Any) -> None:
        key = self.running.pop(ref)
        stage = self.by_key[key]
        exceptions = self.ray.exceptions
        try:
            outcome: StageOutcome = self.ray.get(ref)
        except lost(self.ray) as error:
            self._again(stage, error)
            return
        except exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        self._note_spending(key, outcome.spent)
        if (failure := outcome.raised()) is not None:
            raise failure
        artifact = self.store.find(key)
        if artifact is None:
            raise HarnessError(
                f"{self.store.root}: {stage.id} was computed by another node and is missing: the store must be on a "
                "file system shared by all nodes"
            )
        if outcome.ran:
            self.ran += 1
            self._bar_ends(key)
            self.view.done(stage, artifact.report, artifact.record.seconds)
        self.artifacts[key] = artifact
        for needed in self.waiting_for.values():
            needed.discard(key)

    def _again(self, stage: Stage, error: Exception) -> None:
        """Run a stage again that was lost with its node or worker."""
        self._bar_ends(stage.key)
        self.reported_spending.pop(stage.key, None)  # the new run counts from 0; the lost run's spending stays counted
        self.lost[stage.key] = self.lost.get(stage.key, 0) + 1
        kind = "ran out of memory" if isinstance(error, self.ray.exceptions.OutOfMemoryError) else "was lost"
        if self.lost[stage.key] > RETRIES:
            raise HarnessError(
                f"{stage.id}: its node {kind} {self.lost[stage.key]} times; give it more memory in "
                f"runtime.resources.{stage.name}, or smaller batches"
            )
        log.warning("%s: its worker or node %s; running it again", stage.id, kind)
        self._send(stage, self._workers(stage, self._needed(stage), len(self.running) + 1))

    def _needed(self, stage: Stage) -> Resources:
        if resources := declared(self.resources, stage.name):
            return resources
        gpus = (
            self.ray.cluster_resources().get("GPU", 0)
            if stage.name in STAGE_KINDS and STAGE_KINDS[stage.name].uses_model
            else 0
        )
        return Resources(gpus=1.0 if gpus else 0.0)

    def _workers(self, stage: Stage, needed: Resources, at_once: int) -> int:
        """How many workers share the stage: one a node, or (with declared resources, and on GPUs) as many as fit. 0, so
        that its task does all, where that is one, where as many stages (`at_once`) keep the workers busy anyway, or
        where it asks judges under a limit on what they cost, which several might exceed together."""
        if stage.spreads == "nothing" or (self.spending.limit is not None and _asks_judges(stage)):
            return 0
        fit = [needed.fit(node["Resources"]) for node in self.ray.nodes() if node["Alive"]]
        if stage.spreads == "by node" or not (needed.gpus or declared(self.resources, stage.name)):
            fit = [min(1, count) for count in fit]
        count = min(sum(fit), needed.workers or sum(fit))
        return count if count > 1 and at_once < count else 0

    def _check_resources(self) -> None:
        """Raises HarnessError if no node has the resources of a stage. (Ray would wait for such a node.)"""
        nodes = [n["Resources"] for n in self.ray.nodes() if n["Alive"]]
        for key in self.waiting_for:
            stage = self.by_key[key]
            needed = self._needed(stage)
            if not any(needed.fit(node) for node in nodes):
                offers = "; ".join(
                    f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs, {node.get('memory', 0) / 2**30:.1f} GiB"
                    for node in nodes
                )
                raise HarnessError(
                    f"runtime.resources.{stage.name}: no node has {needed.cpus:g} CPUs, {needed.gpus:g} GPUs and "
                    f"{(needed.memory or 0) / 2**30:.1f} GiB for {stage.id}; the nodes have {offers}"
                )

    def _listen(self) -> None:
        """Process the events that workers have sent since the last call."""
        try:
            events = self.ray.get(self.inbox.take.remote(), timeout=POLL * 10)
        except self.ray.exceptions.RayError:
            return  # lost progress is no reason to abort
        for kind, key, payload in events:
            stage = self.by_key[key]
            if kind == "log":
                log.log(*payload)
            elif key in self.artifacts:
                continue  # sent before the stage finished, received after
            elif kind == "stage":
                self.view.stage(stage, *self.position[key])
                self.bars[key] = self.view.part(stage, payload)
            elif kind == "waiting":
                self.view.waiting(stage)
            elif kind == "start" and key in self.bars:
                self.bars[key].start(*payload)
            elif kind == "advance" and key in self.bars:
                self.bars[key].advance(payload)
            elif kind == "spent":
                self._note_spending(key, payload)

    def _bar_ends(self, key: str) -> None:
        if bar := self.bars.pop(key, None):
            bar.start("", None)

    def _note_spending(self, key: str, now: tuple[float, int, int]) -> None:
        """Add what a stage has spent since its last report."""
        before = self.reported_spending.get(key, (0.0, 0, 0))
        self.reported_spending[key] = now
        self.spending.add(now[0] - before[0], now[1] - before[1], now[2] - before[2])


def _asks_judges(stage: Stage) -> bool:
    return any(name.startswith("verdicts-") for name in stage.exclusive)


def _dependencies(stages: Sequence[Stage], finished: Set[str], limited: bool) -> dict[str, set[str]]:
    """The unfinished stages that each missing stage must wait for: its inputs, and earlier stages of the plan that add
    to the same journals (with a limit on judging costs: that ask any judge)."""
    dependencies: dict[str, set[str]] = {}
    last: dict[str, str] = {}
    for stage in stages:
        if stage.key in finished:
            continue
        needed = {s.key for s in stage.inputs.values() if s.key not in finished}
        names = set(stage.exclusive)
        if limited and _asks_judges(stage):
            names.add("spending")
        needed |= {last[name] for name in names if name in last}
        dependencies[stage.key] = needed
        last |= dict.fromkeys(names, stage.key)
    return dependencies
