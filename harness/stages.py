"""What a stage is: a name, what its result depends on, and the function that makes it."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from harness.spending import JudgeCost, Spending
from harness.store import Artifact, Store, stage_key


class Progress(Protocol):
    """A progress bar for the stage that runs."""

    def start(self, what: str, total: int | None) -> None:
        """A new part of the stage: `what` in a few words, and how many items it has (None: not known)."""
        ...

    def advance(self, items: int) -> None:
        """So many items more are done."""
        ...


@dataclass
class Context:
    """What a stage's function is given: an empty folder to fill, its inputs by role, a bar, a log, the store (for its
    journals and logs only), the place for what it would go on from, should it be stopped (it need not exist), the
    stage's key, and what the run has spent on judges so far."""

    folder: Path
    inputs: Mapping[str, Artifact]
    progress: Progress
    log: logging.Logger
    store: Store
    partial: Path
    key: str
    spending: Spending = field(default_factory=Spending)


class Estimate(NamedTuple):
    """About what a stage will cost: tokens to generate, tokens to train on, calls of the judge, tokens to score;
    `work` in this process (see `harness.workload`), `waiting` in seconds for servers. `pool`: of stages with the same
    one, the largest has the work of all: what it has made, the others find."""

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
    """A step of a plan. `version` counts changes of the code that change results; `params` and the inputs' keys are
    the rest of what the result depends on, and the key is their SHA-256."""

    id: str
    name: str
    version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, "Stage"]
    body: Body = field(repr=False)
    estimate: Callable[[], Estimate] = field(default=Estimate, repr=False)
    judging: Callable[[Store], JudgeCost | None] | None = field(default=None, repr=False)
    """What its judge may cost, judged by what is in the store already; None for one that costs nothing."""
    exclusive: frozenset[str] = frozenset()
    """Names of what it adds to beside its artifact: a pool of samples, a judge's journal. Two stages that share one
    never run at once, or both would ask for what one of them could have found."""
    serves: int = 0
    """Of stages that share one, the larger is run first: five responses a prompt have the first two among them."""

    @cached_property
    def key(self) -> str:
        return stage_key(self.name, self.version, self.params, {role: s.key for role, s in self.inputs.items()})


def derived_seed(seed: int, *parts: str) -> int:
    """A seed in [0, 2^31) for one purpose, from the recipe's seed: purposes don't share random streams."""
    digest = hashlib.sha256(":".join([str(seed), *parts]).encode()).digest()
    return int.from_bytes(digest[:4]) >> 1
