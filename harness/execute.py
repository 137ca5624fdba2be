"""Runs a plan's stages in this process, one after the other. What the store has is not run again."""

import logging
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from filelock import Timeout

from harness.provenance import made_by
from harness.spending import Spending
from harness.stages import Context, Progress, Stage
from harness.store import Artifact, ArtifactRecord, Store

log = logging.getLogger("harness")


class Reporter(Progress, Protocol):
    """What the command line shows of a run."""

    def stage(self, stage: Stage, number: int, total: int) -> None:
        """A stage begins to run."""
        ...

    def done(self, stage: Stage, report: dict[str, Any], seconds: float) -> None:
        """A stage has ended."""
        ...

    def waiting(self, stage: Stage) -> None:
        """Another run is computing this stage: this one waits for it."""
        ...


class Executed(NamedTuple):
    """Artifacts by stage key, and how many stages were run rather than found."""

    artifacts: dict[str, Artifact]
    ran: int


class HasStages(Protocol):
    """A plan: of one recipe, or of a sweep."""

    @property
    def stages(self) -> list[Stage]:
        """All stages, in an order in which they can run."""
        ...


def execute(plan: HasStages, store: Store, reporter: Reporter, spending: Spending | None = None) -> Executed:
    """Run what is missing, in order. Raises what a stage raises; stages that finished before stay finished.
    `spending`: what the run's judges have cost, and may."""
    spending = spending or Spending()
    artifacts: dict[str, Artifact] = {}
    ran = 0
    stages = plan.stages
    prepare_libraries: Callable[[], None] | None = _quiet_libraries
    for number, stage in enumerate(stages, 1):
        artifact = store.find(stage.key)
        if artifact is None:
            if prepare_libraries:
                prepare_libraries()
                prepare_libraries = None
            lock = store.lock(stage.key)
            try:
                held = lock.acquire(timeout=0)
            except Timeout:
                reporter.waiting(stage)
                held = lock.acquire()
            with held:
                artifact = store.find(stage.key)
                if artifact is None:
                    reporter.stage(stage, number, len(stages))
                    artifact = _build(stage, artifacts, store, reporter, spending)
                    ran += 1
        artifacts[stage.key] = artifact
    return Executed(artifacts, ran)


def _build(
    stage: Stage, artifacts: dict[str, Artifact], store: Store, reporter: Reporter, spending: Spending
) -> Artifact:
    started = time.monotonic()
    inputs = {role: artifacts[needed.key] for role, needed in stage.inputs.items()}
    log.info("%s: running, key %s", stage.id, stage.key[:16])
    with store.building(stage.key) as scratch:
        partial = store.partial(stage.key)
        report = stage.body(Context(scratch, inputs, reporter, log, store, partial, stage.key, spending))
        seconds = time.monotonic() - started
        record = ArtifactRecord(
            key=stage.key,
            stage=stage.name,
            version=stage.version,
            params=dict(stage.params),
            inputs={role: needed.key for role, needed in stage.inputs.items()},
            files={},
            report=report,
            made_by=made_by(),
            seconds=round(seconds, 3),
        )
        artifact = store.publish(scratch, record)
    log.info("%s: done in %.1f s: %s", stage.id, seconds, report)
    reporter.done(stage, report, seconds)
    return artifact


def _quiet_libraries() -> None:
    """The libraries' own bars and notices go to the log, not between ours."""
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    os.environ.setdefault("TQDM_DISABLE", "1")  # where TRL's bars look
