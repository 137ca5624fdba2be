"""Runs a plan's stages on a Ray cluster: as many at once as their inputs and the nodes' resources allow.

Every stage is a task with declared processors, GPUs and memory, on a store that all nodes share. Stages that add to the
same journals run one after the other, in the plan's order, so that the board is that of a run in one process. What a
lost node was running is run again elsewhere.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from harness.engine import interrupts
from harness.engine.cluster.connect import connected
from harness.engine.cluster.work import Inbox, Order, Outcome, work
from harness.engine.execute import ExecutionResult, HasStages, Overview, StagePosition, sound_artifacts, threads
from harness.engine.resources import Resources, declared
from harness.engine.stage import Progress, Stage
from harness.engine.store import Store
from harness.errors import HarnessError
from harness.servers.spending import Spending
from harness.types import STAGE_KINDS

log = logging.getLogger("harness")

RETRIES = 3
"""How often a stage is run again that its node took along when it was lost."""
POLL = 0.2
PASSED = (
    "HARNESS_HOME",
    "OMP_NUM_THREADS",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HF_HUB_DISABLE_TELEMETRY",
    "OMP_WAIT_POLICY",
    "TQDM_DISABLE",
)
"""Environment variables that workers get from the driver; keys and tokens they must have of their own."""


def execute_on_ray(
    plan: HasStages,
    store: Store,
    view: Overview,
    spending: Spending,
    address: str,
    wanted: Mapping[str, Resources],
) -> ExecutionResult:
    """Run what is missing on the cluster at `address`, or (`local`) on one that is started on this machine for as long
    as it takes. `wanted`: by kind of stage, `default` for the others. Raises what a stage raises, and HarnessError
    where there is no cluster or none of its nodes has what a stage needs."""
    with connected(address) as ray:
        return _Executor(ray, plan.stages, store, view, spending, wanted).run()


class _Executor:
    """One run of a plan."""

    def __init__(
        self,
        ray: Any,
        stages: Sequence[Stage],
        store: Store,
        view: Overview,
        spending: Spending,
        wanted: Mapping[str, Resources],
    ) -> None:
        self.ray, self.stages, self.store, self.view = ray, stages, store, view
        self.spending, self.wanted = spending, wanted
        self.place = {stage.key: StagePosition(i, len(stages)) for i, stage in enumerate(stages, 1)}
        self.by_key = {stage.key: stage for stage in stages}
        self.artifacts = sound_artifacts(stages, store)
        self.waiting_for = _waiting(stages, self.artifacts.keys(), spending.limit is not None)
        self.running: dict[Any, str] = {}
        self.lost: dict[str, int] = {}
        self.known_spending: dict[str, tuple[float, int, int]] = {}
        self.bars: dict[str, Progress] = {}
        self.ran = 0

    def run(self) -> ExecutionResult:
        ray = self.ray
        self._check_resources()
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        # Without processors of its own, and on this node: it lives as long as the driver.
        self.inbox = ray.remote(num_cpus=0)(Inbox).options(scheduling_strategy=here).remote()
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
                with suppress(ray.exceptions.RayError, RuntimeError, ValueError):  # the cluster may be gone by now
                    ray.cancel(ref, force=True)
        return ExecutionResult(self.artifacts, self.ran)

    def _submit(self) -> None:
        """Everything that waits for nothing."""
        free = [key for key, needed in self.waiting_for.items() if not needed]
        for key in sorted(free, key=lambda k: self.place[k].number):
            del self.waiting_for[key]
            self._send(self.by_key[key])

    def _send(self, stage: Stage) -> None:
        needed = self._needed(stage)
        limit = self.spending.limit
        order = Order(
            stage,
            self.store.root.absolute(),
            self.place[stage.key],
            {name: os.environ[name] for name in PASSED if name in os.environ},
            None if limit is None else max(0.0, limit - self.spending.spent),
            self.spending.prices,
            threads(declared(self.wanted, stage.name)),
        )
        task = self.task.options(
            num_cpus=needed.cpus, num_gpus=needed.gpus, memory=needed.memory or None, name=stage.id
        )
        self.running[task.remote(order, self.inbox)] = stage.key

    def _finish(self, ref: Any) -> None:
        key = self.running.pop(ref)
        stage = self.by_key[key]
        exceptions = self.ray.exceptions
        try:
            outcome: Outcome = self.ray.get(ref)
        except (
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.OutOfMemoryError,
            exceptions.ObjectLostError,
            exceptions.RaySystemError,
        ) as error:
            self._again(stage, error)
            return
        except exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        self._note_spending(key, outcome.spent)
        if (failed := outcome.raised()) is not None:
            raise failed
        artifact = self.store.find(key)
        if artifact is None:
            raise HarnessError(
                f"{self.store.root}: {stage.id} was made by another node and is not there: the store must be on a file "
                "system that all nodes share"
            )
        if outcome.ran:
            self.ran += 1
            self._bar_ends(key)
            self.view.done(stage, artifact.report, artifact.record.seconds)
        self.artifacts[key] = artifact
        for needed in self.waiting_for.values():
            needed.discard(key)

    def _again(self, stage: Stage, error: Exception) -> None:
        """Run a stage once more that was lost with its node or worker."""
        self._bar_ends(stage.key)
        self.known_spending.pop(stage.key, None)  # it counts from nothing again; what it had spent stays counted
        self.lost[stage.key] = self.lost.get(stage.key, 0) + 1
        kind = "ran out of memory" if isinstance(error, self.ray.exceptions.OutOfMemoryError) else "was lost"
        if self.lost[stage.key] > RETRIES:
            raise HarnessError(
                f"{stage.id}: its node {kind} {self.lost[stage.key]} times; give it more memory in "
                f"runtime.resources.{stage.name}, or smaller batches"
            )
        log.warning("%s: its worker or node %s; it is run again", stage.id, kind)
        self._send(stage)

    def _needed(self, stage: Stage) -> Resources:
        if own := declared(self.wanted, stage.name):
            return own
        gpus = (
            self.ray.cluster_resources().get("GPU", 0)
            if stage.name in STAGE_KINDS and STAGE_KINDS[stage.name].uses_model
            else 0
        )
        return Resources(gpus=1.0 if gpus else 0.0)

    def _check_resources(self) -> None:
        """Raises HarnessError for what no node has: Ray would wait for such a node."""
        nodes = [n["Resources"] for n in self.ray.nodes() if n["Alive"]]
        for key in self.waiting_for:
            stage = self.by_key[key]
            needed = self._needed(stage)
            asked = {"CPU": needed.cpus, "GPU": needed.gpus, "memory": float(needed.memory or 0)}
            if not any(all(node.get(name, 0) >= amount for name, amount in asked.items()) for node in nodes):
                there = "; ".join(
                    f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs, {node.get('memory', 0) / 2**30:.1f} GiB"
                    for node in nodes
                )
                raise HarnessError(
                    f"runtime.resources.{stage.name}: no node has {needed.cpus:g} CPUs, {needed.gpus:g} GPUs and "
                    f"{(needed.memory or 0) / 2**30:.1f} GiB for {stage.id}; the nodes have {there}"
                )

    def _listen(self) -> None:
        """What the workers have said since."""
        try:
            events = self.ray.get(self.inbox.take.remote(), timeout=POLL * 10)
        except self.ray.exceptions.RayError:
            return  # progress is not worth a run
        for what, key, more in events:
            stage = self.by_key[key]
            if what == "log":
                log.log(*more)
            elif key in self.artifacts:
                continue  # said before the stage was done, and heard after
            elif what == "stage":
                self.view.stage(stage, *self.place[key])
                self.bars[key] = self.view.part(stage, more)
            elif what == "waiting":
                self.view.waiting(stage)
            elif what == "start" and key in self.bars:
                self.bars[key].start(*more)
            elif what == "advance" and key in self.bars:
                self.bars[key].advance(more)
            elif what == "spent":
                self._note_spending(key, more)

    def _bar_ends(self, key: str) -> None:
        if bar := self.bars.pop(key, None):
            bar.start("", None)

    def _note_spending(self, key: str, now: tuple[float, int, int]) -> None:
        """Add what a stage has spent since it was last heard of."""
        before = self.known_spending.get(key, (0.0, 0, 0))
        self.known_spending[key] = now
        self.spending.add(now[0] - before[0], now[1] - before[1], now[2] - before[2])


def _waiting(stages: Sequence[Stage], there: Any, limited: bool) -> dict[str, set[str]]:
    """What each missing stage waits for: its inputs, and those before it in the plan that add to the same journals
    (with a limit on what judges may cost: that ask any judge)."""
    found: dict[str, set[str]] = {}
    last: dict[str, str] = {}
    for stage in stages:
        if stage.key in there:
            continue
        needed = {s.key for s in stage.inputs.values() if s.key not in there}
        names = set(stage.exclusive)
        if limited and any(name.startswith("verdicts-") for name in names):
            names.add("spending")
        needed |= {last[name] for name in names if name in last}
        found[stage.key] = needed
        last |= dict.fromkeys(names, stage.key)
    return found
