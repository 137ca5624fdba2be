"""Shows a run's progress: one line per stage, with a bar in a terminal or a notebook, and elsewhere a line a minute."""

import logging
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from harness.engine import interrupts
from harness.engine.stage import Stage
from harness.pipeline.live.time_left import UNKNOWN, Part, RunTime, Times, rate_text, rough
from harness.printable import printable

LOGGED = frozenset({"seconds", "rows", "micro_batch_size", "trained_parameters"})
"""Items of a stage's report that are logged but not shown on the screen."""
EVERY = 60.0
"""Seconds between two lines where there are no bars."""
WIDE, TIMES, SHORTEST = 100, 37, 12
"""Columns of a terminal: from how many on bars are long, how many the times take, and the least of a description."""
MOST = 3
"""The largest number of concurrent stages in such a line."""


class _Notices(logging.Handler):
    """Also shows the harness's warnings on the screen, so that users see, for example, that rows were left out."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(Padding(Text(printable(record.getMessage()), style="yellow"), (0, 0, 0, 8), expand=False))


def _has_bars(console: Console) -> bool:
    """Whether moving bars can be shown; in a notebook rich needs ipywidgets for them."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


class _RunLeft(ProgressColumn):
    """The time until the whole run is done: `run: 12 min`."""

    max_refresh = 1.0

    def __init__(self, left: Callable[[], str | None]) -> None:
        super().__init__(Column(no_wrap=True))
        self._left = left

    def render(self, task: Task) -> Text:
        left = self._left()
        return Text("" if left is None else f"run: {left}", style="cyan")


class _Bar:
    """The bar of a running stage, and what is known of its progress."""

    def __init__(self, view: "RunView", stage: Stage | None, label: str) -> None:
        self._view, self._stage, self._label = view, stage, label
        self._began = view.clock()
        self._task: Any = None

    def start(self, what: str, total: int | None) -> None:
        """Start a new part of the stage; an empty `what` only ends the previous one."""
        self.end()
        if what:
            shown, now = printable(f"{self._label}{what}"), self._view.clock()
            key = self._stage.key if self._stage else ""
            self._view.parts[self] = Part(key, self._began, shown, total, now)
            room = self._view.console.width - self._view.bar_width - TIMES - 2 * len(str(total or 0)) - 1
            self._task = self._view.bars.add_task(printable(shown, max(SHORTEST, room)), total=total)

    def advance(self, items: int) -> None:
        if self._task is not None:
            self._view.bars.advance(self._task, items)
            self._view.parts[self].items += items

    def end(self) -> None:
        if self._task is not None:
            self._view.bars.remove_task(self._task)
            self._task = None
            del self._view.parts[self]


class RunView:
    """Draws a run's progress; a `harness.engine.execute.Overview`. In a file or a pipe it prints two lines per stage,
    and a line a minute without bars. `clock`: seconds, from any beginning."""

    def __init__(self, console: Console, every: float = EVERY, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.clock = console, clock
        self.parts: dict[_Bar, Part] = {}
        self.bar_width = 10 if console.width < WIDE else 20
        self.bars = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=self.bar_width),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            _RunLeft(self._run_left),
            console=console,
            transient=True,
            disable=not _has_bars(console),
        )
        self._every = every
        self._stop: threading.Event | None = None
        self._time = RunTime()
        self._bar = _Bar(self, None, "")
        self._concurrent = False  # whether stages run concurrently, so that finished ones must be named
        self._notices = _Notices(console)

    def __enter__(self) -> "RunView":
        logging.getLogger("harness").addHandler(self._notices)
        self.bars.start()
        if self.bars.disable:
            self._stop = threading.Event()
            threading.Thread(target=self._lines, args=(self._stop,), name="progress", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stop is not None:
            self._stop.set()
        self.bars.stop()
        logging.getLogger("harness").removeHandler(self._notices)

    def expect(self, times: Callable[[], Times]) -> None:
        self._time.expect(times)

    def start(self, what: str, total: int | None) -> None:
        interrupts.check()
        self._bar.start(what, total)

    def advance(self, items: int) -> None:
        self._bar.advance(items)
        interrupts.check()  # the batch's results are on disk already

    def part(self, stage: Stage, node: str) -> _Bar:
        self._concurrent = True
        self._time.at_once()
        return _Bar(self, stage, f"{node} {stage.id}: ")

    def stage(self, stage: Stage, number: int, total: int) -> None:
        interrupts.check()
        self._bar.end()
        self._time.runs(number)
        self._bar = _Bar(self, stage, "")
        # In a sweep the id has the cell in brackets, which must not be read as markup.
        self.console.print(Text.assemble((f"{number:>3}/{total}", "bold"), f" {printable(stage.id)}"))

    def done(self, stage: Stage, report: dict[str, Any], seconds: float) -> None:
        self._bar.end()
        self._time.done(stage, seconds)
        if self._concurrent:
            self.console.print(Text(f"        {printable(stage.id)} is done", style="dim"))
        items = [text for name, value in report.items() if name not in LOGGED and (text := _item(name, value))]
        line = Text(printable("; ".join([f"{seconds:.1f} s", *items])), style="dim")
        self.console.print(Padding(line, (0, 0, 0, 8), expand=False))

    def waiting(self, stage: Stage) -> None:
        self.console.print(Text(f"        another run is computing {printable(stage.id)}; waiting for it"))

    def line(self) -> None:
        """Print one line about what runs now: items done, their rate, the time left of it and of the whole run."""
        now, parts = self.clock(), list(self.parts.values())
        if not parts:
            return
        texts = [_progress(part, now) for part in parts[:MOST]]
        texts += [f"{len(parts) - MOST} more"] if len(parts) > MOST else []
        if (left := self._run_left()) is not None:
            texts.append(f"whole run: {left}{' left' * (left != UNKNOWN)}")
        for part in parts:
            part.mark(now)
        self.console.print(Text(f"        {'; '.join(texts)}"), soft_wrap=True)

    def _lines(self, stop: threading.Event) -> None:
        while not stop.wait(self._every):
            self.line()

    def _run_left(self) -> str | None:
        """The time that the whole run still takes; None where what runs is no plan."""
        return rough(self._time.left(list(self.parts.values()), self.clock())) if self._time.is_asked_for else None


def _progress(part: Part, now: float) -> str:
    """`training dpo: 412/9,600, 6.9/s, 22 min left`, or of what counts nothing, `loading: 3 min so far`."""
    rate, left = part.rate(now), part.left(now)
    if part.total is None and not part.items:
        return f"{part.what}: {rough(now - part.started)} so far"
    items = f"{part.what}: {part.items:,}" + ("" if part.total is None else f"/{part.total:,}")
    return ", ".join(
        [items, *([rate_text(rate)] if rate else []), *([f"{rough(left)} left"] if left is not None else [])]
    )


_NAMES = ("ignored_columns", "read_as", "leaks")
"""Counts by names that are not ours to change."""


def _item(name: str, value: Any) -> str:
    """One item of a report for one line; empty for zeros, and for nested values except counts and metrics."""
    shown = name.replace("_", " ")
    if isinstance(value, dict) and value and all(isinstance(v, int) for v in value.values()):
        counts = {k if name in _NAMES else k.replace("_", " "): v for k, v in value.items()}
        return f"{shown}: {', '.join(f'{k} {v}' for k, v in counts.items())}"
    text = _short(value)
    return text and f"{shown}{':' * isinstance(value, str)} {text}"


def _short(value: Any) -> str:
    if value in (0, None, ""):
        return ""
    if isinstance(value, bool | int | str):
        return str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict) and "ci95" in value:
        interval = f" [{value['ci95'][0]:.2f}, {value['ci95'][1]:.2f}]" if value["ci95"] else ""
        return f"{_short(value['value'])}{interval} (n={value['n']})"
    return ""


class SilentView:
    """A `harness.engine.execute.Overview` that draws nothing."""

    def __enter__(self) -> "SilentView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def expect(self, times: Callable[[], Times]) -> None:
        pass

    def start(self, what: str, total: int | None) -> None:
        interrupts.check()

    def advance(self, items: int) -> None:
        interrupts.check()

    def part(self, stage: Stage, node: str) -> "SilentView":
        return self

    def stage(self, stage: Stage, number: int, total: int) -> None:
        interrupts.check()

    def done(self, stage: Stage, report: dict[str, Any], seconds: float) -> None:
        pass

    def waiting(self, stage: Stage) -> None:
        pass
