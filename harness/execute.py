"""Runs a plan's stages in this process, one after the other. What the store has is not run again. `ray_execute` runs
them on a cluster."""

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, NamedTuple, Protocol

from harness.errors import ModelError
from harness.lease import Lease
from harness.provenance import made_by
from harness.recipe_training import Resources, declared
from harness.spending import Spending
from harness.stages import Context, Progress, Stage
from harness.store import Artifact, ArtifactRecord, Store

log = logging.getLogger("harness")
LIGHT = 16_000_000
"""Bytes of a file up to which it is read again whenever its artifact is used: figures and answers, and no weights."""


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


def execute(
    plan: HasStages,
    store: Store,
    reporter: Reporter,
    spending: Spending | None = None,
    wanted: Mapping[str, Resources] | None = None,
) -> Executed:
    """Run what is missing, in order. Raises what a stage raises; stages that finished before stay finished.
    `spending`: what the run's judges have cost, and may. `wanted`: the recipe's `runtime.resources`."""
    spending = spending or Spending()
    stages = plan.stages
    artifacts = sound_artifacts(stages, store)
    ran = 0
    for number, stage in enumerate(stages, 1):
        artifact = artifacts.get(stage.key)
        if artifact is None:
            inputs = {role: artifacts[needed.key] for role, needed in stage.inputs.items()}
            place = Place(number, len(stages))
            if wanted:
                use_threads(threads(declared(wanted, stage.name)))
            artifact, was_run = run_stage(stage, inputs, store, reporter, spending, place)
            ran += was_run
        artifacts[stage.key] = artifact
    return Executed(artifacts, ran)


def sound_artifacts(stages: Sequence[Stage], store: Store) -> dict[str, Artifact]:
    """What the store has of a plan and can be used: small files have the content that was recorded, and of what goes
    into a stage that is still to be run all files have. What is broken counts as not there."""
    found = {s.key: a for s in stages if (a := store.sound(s.key, LIGHT)) is not None}
    waiting = [stage for stage in stages if stage.key not in found]
    while waiting:
        used = {needed.key: needed for stage in waiting for needed in stage.inputs.values() if needed.key in found}
        waiting = [needed for key, needed in used.items() if store.sound(key) is None]
        for needed in waiting:
            del found[needed.key]
    return found


def threads(needed: Resources | None) -> int | None:
    """How many threads a stage computes with: its declared processors, as far as there are so many; None: torch's own
    choice. The same in process and on a cluster, since sums over more parts round otherwise."""
    return None if needed is None else max(1, min(int(needed.cpus), os.cpu_count() or 1))


def use_threads(count: int | None) -> None:
    """Have torch compute with so many threads."""
    import torch

    torch.set_num_threads(count or _own_threads())


@cache
def _own_threads() -> int:
    import torch

    return torch.get_num_threads()


class Place(NamedTuple):
    """Which of how many stages one is."""

    number: int
    total: int


def run_stage(
    stage: Stage, inputs: Mapping[str, Artifact], store: Store, reporter: Reporter, spending: Spending, place: Place
) -> tuple[Artifact, bool]:
    """(the stage's artifact, whether it was run for it). Other runs that compute the same stage, or add to the same
    journals, are waited for."""
    quiet_libraries()
    with ExitStack() as held:

        def hold(name: str) -> Lease:
            lease = store.lock(name)
            lease.acquire(lambda: reporter.waiting(stage))
            held.callback(lease.release)
            return lease

        lease = hold(stage.key)
        if artifact := store.find(stage.key):
            return artifact, False
        # In one order for all, so that no two wait for each other.
        for name in sorted(stage.exclusive):
            hold(hashlib.sha256(name.encode()).hexdigest())
        reporter.stage(stage, *place)
        return _build(stage, inputs, store, reporter, spending, lease), True


def _build(
    stage: Stage, inputs: Mapping[str, Artifact], store: Store, reporter: Reporter, spending: Spending, lease: Lease
) -> Artifact:
    started = time.monotonic()
    log.info("%s: running, key %s", stage.id, stage.key[:16])
    with store.building(stage.key) as scratch:
        partial = store.partial(stage.key)
        with _enough_memory(stage):
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
        lease.check()
        artifact = store.publish(scratch, record)
    log.info("%s: done in %.1f s: %s", stage.id, seconds, report)
    reporter.done(stage, report, seconds)
    return artifact


@contextmanager
def _enough_memory(stage: Stage) -> Iterator[None]:
    """Raises ModelError where the stage ran out of memory, in whatever way libraries say so."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        from harness.decoding import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"{stage.id}: out of memory; what was finished is kept. Lower runtime.micro_batch_size or "
            "runtime.score_batch_size, set runtime.bounded_memory, or cut at a smaller max_length"
        ) from None


@cache
def quiet_libraries() -> None:
    """The libraries' own bars and notices go to the log, not between ours."""
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    os.environ.setdefault("TQDM_DISABLE", "1")  # where TRL's bars look
