"""How long a run still takes: what `harness plan` estimates, corrected by how long finished stages really took."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from harness.engine.execute import Overview
from harness.engine.stage import Stage
from harness.engine.store import Store
from harness.errors import HarnessError
from harness.pipeline.study import StudyPlan

UNKNOWN = "unknown"
PRIOR = 10.0
"""Seconds of finished stages at which they and the estimates weigh the same."""


class Expected(NamedTuple):
    """A stage of the plan: its kind, and the estimated seconds; 0 if the store has it."""

    kind: str
    seconds: float


Times = Mapping[str, Expected] | None
"""By the keys of all stages, in the plan's order; None if nobody can tell."""


class View(Overview, Protocol):
    """What is shown of a plan's run."""

    def expect(self, times: Callable[[], Times]) -> None:
        """A plan is about to run, and `times` says how long its stages should take."""
        ...


def expected_times(plan: StudyPlan, store: Store) -> Times:
    """What the stages of a plan should take one after the other. Of stages that share one pool of results, each takes
    what the ones before it have left. None where the size of a model is unknown, which `plan` leaves out of its
    times."""
    from harness.models.demand.shapes import models_of_unknown_size
    from harness.pipeline.estimates import Estimates
    from harness.recipe.checks import models_of

    try:
        if any(models_of_unknown_size(models_of(cell.recipe)) for cell in plan.study.cells):
            return None
        estimates = Estimates(plan, store)
        times: dict[str, Expected] = {}
        pools: dict[str, list[str]] = {}
        for stage in plan.stages:
            seconds = 0.0
            if stage.key not in estimates.stored:
                before = pools.setdefault(estimates.of[stage.key].pool or stage.key, [])
                seconds = estimates.cost([*before, stage.key]).seconds - estimates.cost(before).seconds
                before.append(stage.key)
            times[stage.key] = Expected(stage.name, max(0.0, seconds))
        return times
    except (HarnessError, OSError):  # what is wrong is said by the stage that needs it
        return None


class Part:
    """What a stage does now, such as training on so many prompts. `stage`: its key; `began`: when the stage began."""

    def __init__(self, stage: str, began: float, what: str, total: int | None, now: float) -> None:
        self.stage, self.began, self.what, self.total, self.started = stage, began, what, total, now
        self.items = 0
        self._marked = (now, 0)

    def rate(self, now: float) -> float | None:
        """Items a second since the last `mark`, or where nothing was done since then, all the time; None at first."""
        for since, items in (self._marked, (self.started, 0)):
            if self.items > items and now > since:
                return (self.items - items) / (now - since)
        return None

    def mark(self, now: float) -> None:
        """A new period for `rate` begins."""
        self._marked = (now, self.items)

    def left(self, now: float) -> float | None:
        """Seconds until all items are done, at the present rate; None if that can't be told."""
        rate = self.rate(now)
        return None if rate is None or self.total is None else max(0, self.total - self.items) / rate


class RunTime:
    """The time that a run still takes."""

    def __init__(self) -> None:
        self._estimate: Callable[[], Times] | None = None
        self._times: Times = None
        self._finished: dict[str, float] = {}
        self._number, self._at_once = 1, False

    def expect(self, estimate: Callable[[], Times]) -> None:
        """A run begins. `estimate` is called when its first stage runs: a run that finds all in the store is quick."""
        self._estimate, self._times = estimate, None
        self._finished, self._number, self._at_once = {}, 1, False

    @property
    def is_asked_for(self) -> bool:
        """Whether what runs is a plan at all."""
        return self._estimate is not None

    def runs(self, number: int) -> None:
        """Stage `number` of the plan begins. Unless stages run at once, the ones before it are done, here or by another
        run."""
        if self._times is None and self._estimate is not None:
            self._times = self._estimate()
        self._number = number

    def at_once(self) -> None:
        """Stages of this run run at once: that one begins says nothing of the ones before it."""
        self._at_once = True

    def done(self, stage: Stage, seconds: float) -> None:
        """A stage has ended, after so many seconds."""
        self._finished[stage.key] = seconds

    def left(self, running: Sequence[Part], now: float) -> float | None:
        """Seconds until all stages are done, with as many at once as there are now; None if that can't be told."""
        if self._times is None:
            return None
        busy = {part.stage: part for part in running}
        gone = set() if self._at_once else set(list(self._times)[: self._number - 1])
        seconds = sum(
            self._ratio(expected.kind) * expected.seconds
            for key, expected in self._times.items()
            if key not in self._finished and key not in gone and key not in busy
        )
        for key, part in busy.items():
            expected = self._times.get(key, Expected("", 0.0))
            by_items = part.left(now)
            by_plan = max(0.0, self._ratio(expected.kind) * expected.seconds - (now - part.began))
            seconds += by_plan if by_items is None else by_items
        return seconds / max(1, len(busy))

    def _ratio(self, kind: str) -> float:
        """What stages of a kind take of their estimated time, by those that have finished. With few of them it is near
        that of all kinds, which is near 1 at first."""
        assert self._times is not None
        every = self._took(self._times, 1.0)
        return self._took([key for key, expected in self._times.items() if expected.kind == kind], every)

    def _took(self, keys: Collection[str], otherwise: float) -> float:
        times = self._times or {}
        known = [key for key in keys if key in self._finished and times[key].seconds > 0]
        real, planned = sum(self._finished[key] for key in known), sum(times[key].seconds for key in known)
        return (real + PRIOR * otherwise) / (planned + PRIOR)


def rough(seconds: float | None) -> str:
    """A time that is only known roughly: `<1 min`, `12 min`, `1 h 40 min`, `3 days`."""
    if seconds is None:
        return UNKNOWN
    minutes = round(seconds / 60)
    if minutes < 1:
        return "<1 min"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{round(minutes / 1440)} days"


def rate_text(rate: float) -> str:
    """`69/s`, `6.9/s`, `4.2/min`, `1.5/h`: items a second, or of slow ones in a longer time."""
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        if (shown := rate * seconds) >= 1 or unit == "h":
            return f"{shown:,.0f}/{unit}" if shown >= 10 else f"{shown:.2g}/{unit}"
    return ""
