"""Stages: a name, what the result depends on, and the function that computes it."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from harness.engine.shards.spool import Shard
from harness.engine.store import Artifact, Store, stage_key
from harness.models.demand.loads import Load
from harness.servers.spending import JudgeCost, Spending
from harness.serving.engine import Named


class Progress(Protocol):
    """A progress bar for the running stage."""

    def start(self, what: str, total: int | None) -> None:
        """Start a new part of the stage. `what`: a short description; `total`: its number of items (None: unknown)."""
        ...

    def advance(self, items: int) -> None:
        """So many more items are done."""
        ...


class Workers(Protocol):
    """Processes, perhaps on other machines, that do the shards of a running stage. `count`: how many there may be."""

    @property
    def count(self) -> int: ...

    def do(self, ctx: "Context", work: "Work", shards: Sequence[Shard], *, more: bool) -> list[Any]:
        """The results of all shards, in order. What is lost with its process is done again by another. `more`: the
        stage may have more shards then, for which its workers are kept."""
        ...


@dataclass
class Context:
    """The argument of a stage's function. `folder`: empty, to be filled; `inputs`: artifacts by role; `store`: only for
    its journals and logs; `partial`: where to keep the state to resume from after an interruption (may not exist);
    `key`: the stage's; `spending`: the run's, on judges. `shard`: the bits of the running shard, in its `work`;
    `workers`: who does shards, if others than this process."""

    folder: Path
    inputs: Mapping[str, Artifact]
    progress: Progress
    log: logging.Logger
    store: Store
    partial: Path
    key: str
    spending: Spending = field(default_factory=Spending)
    shard: str = ""
    workers: Workers | None = None

    @property
    def worker_count(self) -> int:
        """How many may share the stage's work."""
        return self.workers.count if self.workers else 1

    def spread(self, work: "Work", shards: Sequence[Shard], *, more: bool = False) -> list[Any]:
        """The results of `work` for each shard, in order: here, one after the other, or where the cluster has workers
        for the stage. What a shard computes is kept in its journal, so one that is done again asks for the rest.
        `more`: the stage may spread more work after this."""
        if self.workers:
            return self.workers.do(self, work, shards, more=more)
        return [work(self.of(shard), shard) for shard in shards]

    def of(self, shard: Shard) -> "Context":
        """The context in which a shard's work is done."""
        partial = self.partial / shard.bits if shard.bits else self.partial
        return replace(self, shard=shard.bits, partial=partial, workers=None)


Work = Callable[[Context, Shard], Any]
"""Does one shard of a stage, perhaps in another process: it must be picklable, and so must its result. Its context has
no folder to fill."""
Spreads = Literal["nothing", "by node", "by resources"]


class Estimate(NamedTuple):
    """The estimated cost of a stage. `loads`: what models do in it (see `harness.models.demand`). `waiting`: seconds
    for servers and for loading weights. `pool`: of the stages with the same pool, the largest does the work of
    all; the others reuse its results."""

    generated_tokens: int = 0
    trained_tokens: int = 0
    judge_calls: int = 0
    scored_tokens: int = 0
    loads: tuple[Load, ...] = ()
    waiting: float = 0.0
    pool: str = ""

    @property
    def amount(self) -> tuple[float, ...]:
        """By which the stages of a pool are compared."""
        tokens = sum(load.tokens for load in self.loads)
        return self.generated_tokens, self.trained_tokens, self.scored_tokens, tokens, self.waiting


Body = Callable[[Context], dict[str, Any]]
"""Fills the context's folder and returns the stage's report: figures and counts, as JSON-able data."""


@dataclass(frozen=True)
class Stage:
    """A step of a plan. `version`: incremented when a code change alters results. The key is the SHA-256 of everything
    that the result depends on: name, version, `params` and the keys of the inputs."""

    id: str
    name: str
    version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, "Stage"]
    body: Body = field(repr=False)
    estimate: Callable[[], Estimate] = field(default=Estimate, repr=False)
    judging: Callable[[Store], JudgeCost | None] | None = field(default=None, repr=False)
    """Estimates its judge's cost, given the contents of the store. Returns None if it costs nothing."""
    exclusive: frozenset[str] = frozenset()
    """Names of what it adds to besides its artifact: a part of the pool of samples or of a judge's journal. Two stages
    that share one never run at the same time, because both would compute what one of them could reuse. Files need no
    names here: a journal has a lock of its own, for each time that something is written to it."""
    serves: int = 0
    """Among stages that share a resource, a larger one runs first: five responses per prompt include the first two."""
    spreads: Spreads = "nothing"
    """What is done by workers on a cluster, rather than by the stage's task, which then holds no resources: shards, by
    one worker a node if they only wait for a server, else by as many as the stage's resources allow."""
    engines: tuple[Named, ...] = ()
    """The engines that it asks (`harness.engine.engines`)."""

    @cached_property
    def key(self) -> str:
        return stage_key(self.name, self.version, self.params, {role: s.key for role, s in self.inputs.items()})


def derived_seed(seed: int, *parts: str) -> int:
    """A seed in [0, 2^31) derived from the recipe's seed for one purpose, so that purposes don't share random
    streams."""
    digest = hashlib.sha256(":".join([str(seed), *parts]).encode()).digest()
    return int.from_bytes(digest[:4]) >> 1
