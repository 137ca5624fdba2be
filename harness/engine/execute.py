"""Runs a plan's stages in this process, one after the other. Stages whose artifact is in the store are not run again.
`harness.engine.cluster` runs them on a Ray cluster."""

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, NamedTuple, Protocol

from harness.engine import interrupts
from harness.engine.engines import make_room
from harness.engine.lease import Lease
from harness.engine.provenance import made_by
from harness.engine.resources import Resources, declared
from harness.engine.stage import Context, Progress, Stage, Workers
from harness.engine.store import Artifact, ArtifactRecord, Store
from harness.errors import HarnessError, ModelError, is_installed, missing_package
from harness.servers.spending import Spending
from harness.serving.pool import stop_all

log = logging.getLogger("harness")
LIGHT = 16_000_000
"""Files of up to this many bytes are verified whenever their artifact is used: figures and answers, but not weights."""


class Reporter(Progress, Protocol):
    """What is shown of stages that run one after the other."""

    def stage(self, stage: Stage, number: int, total: int) -> None:
        """A stage begins to run."""
        ...

    def done(self, stage: Stage, report: dict[str, Any], seconds: float) -> None:
        """A stage has ended."""
        ...

    def waiting(self, stage: Stage) -> None:
        """Another run is computing this stage: this one waits for it."""
        ...


class Overview(Reporter, Protocol):
    """What is shown of a whole run, also where its stages run at once."""

    def part(self, stage: Stage, node: str) -> Progress:
        """A bar of its own for a stage that runs beside others, on the machine `node`."""
        ...


class ExecutionResult(NamedTuple):
    """Artifacts by stage key, and how many of the stages were run rather than taken from the store."""

    artifacts: dict[str, Artifact]
    ran: int


class HasStages(Protocol):
    """A plan, of one recipe or of a sweep."""

    @property
    def stages(self) -> list[Stage]:
        """All stages, in an order in which they can run."""
        ...


def execute(
    plan: HasStages,
    store: Store,
    reporter: Reporter,
    spending: Spending | None = None,
    resources: Mapping[str, Resources] | None = None,
) -> ExecutionResult:
    """Run missing stages in order. Raises what a stage raises; stages that have finished stay in the store. `spending`:
    the run's spending on judges and its limit. `resources`: the recipe's `runtime.resources`."""
    spending = spending or Spending()
    stages = plan.stages
    artifacts = sound_artifacts(stages, store)
    ran = 0
    try:
        for number, stage in enumerate(stages, 1):
            artifact = artifacts.get(stage.key)
            if artifact is None:
                inputs = {role: artifacts[needed.key] for role, needed in stage.inputs.items()}
                position = StagePosition(number, len(stages))
                if resources:
                    use_threads(threads(declared(resources, stage.name)))
                artifact, was_run = run_stage(stage, inputs, store, reporter, spending, position)
                ran += was_run
            artifacts[stage.key] = artifact
    finally:
        stop_all()
    return ExecutionResult(artifacts, ran)


def sound_artifacts(stages: Sequence[Stage], store: Store) -> dict[str, Artifact]:
    """The usable artifacts of a plan's stages. The content of small files is verified, and that of all files of
    artifacts that are inputs of a missing stage. A broken artifact counts as missing."""
    sound = {s.key: a for s in stages if (a := store.sound(s.key, LIGHT)) is not None}
    missing = [stage for stage in stages if stage.key not in sound]
    while missing:
        used = {needed.key: needed for stage in missing for needed in stage.inputs.values() if needed.key in sound}
        missing = [needed for key, needed in used.items() if store.sound(key) is None]
        for needed in missing:
            del sound[needed.key]
    return sound


def threads(needed: Resources | None) -> int | None:
    """The number of threads of a stage: its declared CPUs, at most as many as exist; None: torch's default. The same in
    process and on a cluster, because sums split over another number of threads round differently."""
    return None if needed is None else max(1, min(int(needed.cpus), os.cpu_count() or 1))


def use_threads(count: int | None) -> None:
    """Set torch's number of threads; None: its default. Without torch there is nothing to set."""
    if not is_installed("torch"):
        return
    import torch

    torch.set_num_threads(count or _default_threads())


@cache
def _default_threads() -> int:
    import torch

    return torch.get_num_threads()


class StagePosition(NamedTuple):
    """A stage's number in its plan, from 1, and the total number of stages."""

    number: int
    total: int


def run_stage(
    stage: Stage,
    inputs: Mapping[str, Artifact],
    store: Store,
    reporter: Reporter,
    spending: Spending,
    position: StagePosition,
    workers: Workers | None = None,
) -> tuple[Artifact, bool]:
    """(the stage's artifact, whether the stage was run). Waits for other runs that compute the same stage or add to the
    same journals. `workers`: who does its shards, if others than this process."""
    if workers is None:
        quiet_libraries()
    with ExitStack() as leases:

        def hold(name: str) -> Lease:
            lease = store.lock(name)
            lease.acquire(lambda: reporter.waiting(stage))
            leases.callback(lease.release)
            return lease

        lease = hold(stage.key)
        if artifact := store.find(stage.key):
            return artifact, False
        # In the same order everywhere, so that runs can't deadlock.
        for name in sorted(stage.exclusive):
            hold(hashlib.sha256(name.encode()).hexdigest())
        reporter.stage(stage, *position)
        make_room(stage, store)
        try:
            return _build(stage, inputs, store, reporter, spending, lease, workers), True
        except HarnessError:
            interrupts.check()  # an engine that is told to stop while it starts has not failed
            raise


def _build(
    stage: Stage,
    inputs: Mapping[str, Artifact],
    store: Store,
    reporter: Reporter,
    spending: Spending,
    lease: Lease,
    workers: Workers | None,
) -> Artifact:
    started = time.monotonic()
    log.info("%s: running, key %s", stage.id, stage.key[:16])
    with store.building(stage.key) as scratch:
        partial = store.partial(stage.key)
        with _in_one_line(stage):
            ctx = Context(scratch, inputs, reporter, log, store, partial, stage.key, spending, workers=workers)
            report = stage.body(ctx)
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
        lease.check()
        artifact = store.publish(scratch, record)
    log.info("%s: done in %.1f s: %s", stage.id, seconds, report)
    reporter.done(stage, report, seconds)
    return artifact


@contextmanager
def _in_one_line(stage: Stage) -> Iterator[None]:
    """Raises ModelError if the stage ran out of memory, however libraries report it, and MissingPackage for what an
    extra would bring."""
    try:
        yield
    except ModuleNotFoundError as error:
        if missing := missing_package(error, stage.id):
            raise missing from None
        raise
    except (MemoryError, RuntimeError) as error:
        from harness.models.batching import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"{stage.id}: out of memory; finished work is kept. Lower runtime.micro_batch_size or "
            "runtime.score_batch_size, or use a smaller max_length or model"
        ) from None


@cache
def quiet_libraries() -> None:
    """Turn off the progress bars and notices of libraries, which would mix with ours. Where only the extra that judges
    is installed, there is no transformers."""
    if is_installed("transformers"):
        import transformers

        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
    if is_installed("datasets"):
        import datasets

        datasets.disable_progress_bars()
    os.environ.setdefault("TQDM_DISABLE", "1")  # where TRL's bars look
