"""Stages: a name, what the result depends on, and the function that computes it."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from harness.engine.store import Artifact, Store, stage_key
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


@dataclass
class Context:
    """The argument of a stage's function. `folder`: empty, to be filled; `inputs`: artifacts by role; `store`: only for
    its journals and logs; `partial`: where to keep the state to resume from after an interruption (may not exist);
    `key`: the stage's; `spending`: the run's, on judges."""

    folder: Path
    inputs: Mapping[str, Artifact]
    progress: Progress
    log: logging.Logger
    store: Store
    partial: Path
    key: str
    spending: Spending = field(default_factory=Spending)


class Estimate(NamedTuple):
    """The estimated cost of a stage. `work`: operations in this process (see `harness.models.workload`). `waiting`:
    seconds for servers and for loading weights. `pool`: of the stages with the same pool, the largest does the work of
    all; the others reuse its results."""

    generated_tokens: int = 0
    trained_tokens: int = 0
    judge_calls: int = 0
    scored_tokens: int = 0
    work: float = 0.0
    waiting: float = 0.0
    pool: str = ""


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
