"""Which engines (`harness.serving`) run while which stages do: those that a stage needs, from the first that does until
one that loads a model itself."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from harness.engine import interrupts
from harness.engine.stage import Stage
from harness.engine.store import Store
from harness.serving.engine import Engine, Named
from harness.serving.pool import keep_only
from harness.stage_kinds import STAGE_KINDS

START = 60.0
"""Seconds that a start is assumed to take, in estimates."""


class Start(NamedTuple):
    """A stage before which an engine is started."""

    engine: Named
    stage: Stage


def make_room(stage: Stage, store: Store) -> None:
    """Stop the engines that a stage doesn't need, if it may use their memory. Those that it needs start when they are
    first asked, unless they run."""
    if stage.engines or _may_load(stage):
        keep_only((named.engine for named in stage.engines), store.logs / "engines", interrupts.is_requested)


def starts(stages: Iterable[Stage]) -> Iterator[Start]:
    """The starts of engines by stages that run one after the other."""
    running: list[Engine] = []
    for stage in stages:
        if not (stage.engines or _may_load(stage)):
            continue
        needed = [next((e for e in running if e.serves(named.engine)), named.engine) for named in stage.engines]
        yield from (Start(named, stage) for named, e in zip(stage.engines, needed, strict=True) if e not in running)
        running = needed


def _may_load(stage: Stage) -> bool:
    return stage.name in STAGE_KINDS and STAGE_KINDS[stage.name].uses_model
