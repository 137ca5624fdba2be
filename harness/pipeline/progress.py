"""Shows a run's progress, one line per stage with a bar, in a terminal or a notebook."""

import logging
from importlib.util import find_spec
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from harness.engine import interrupts
from harness.engine.stage import Stage
from harness.printable import printable

LOGGED = frozenset({"seconds", "rows", "micro_batch_size", "trained_parameters"})
"""Items of a stage's report that are logged but not shown on the screen."""


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


class _Part:
    """The bar of one of several concurrent stages."""

    def __init__(self, bars: Progress, name: str) -> None:
        self._bars, self._name = bars, name
        self._task: Any = None

    def start(self, what: str, total: int | None) -> None:
        """Start a new part of the stage; an empty `what` only ends the previous one."""
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(printable(f"{self._name}: {what}"), total=total) if what else None

    def advance(self, items: int) -> None:
        if self._task is not None:
            self._bars.advance(self._task, items)


class RunView:
    """Draws a run's progress; a `harness.engine.execute.Overview`. In a file or a pipe it prints two lines per stage,
    without bars."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not _has_bars(console),
        )
        self._task: Any = None
        self._concurrent = False  # whether stages run concurrently, so that finished ones must be named
        self._notices = _Notices(console)

    def __enter__(self) -> "RunView":
        logging.getLogger("harness").addHandler(self._notices)
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
        logging.getLogger("harness").removeHandler(self._notices)

    def start(self, what: str, total: int | None) -> None:
        interrupts.check()
        self._clear()
        self._task = self._bars.add_task(printable(what), total=total)

    def advance(self, items: int) -> None:
        if self._task is not None:
            self._bars.advance(self._task, items)
        interrupts.check()  # the batch's results are on disk already

    def part(self, stage: Stage, node: str) -> _Part:
        self._concurrent = True
        return _Part(self._bars, f"{node} {stage.id}")

    def stage(self, stage: Stage, number: int, total: int) -> None:
        interrupts.check()
        self._clear()
        # In a sweep the id has the cell in brackets, which must not be read as markup.
        self.console.print(Text.assemble((f"{number:>3}/{total}", "bold"), f" {printable(stage.id)}"))

    def done(self, stage: Stage, report: dict[str, Any], seconds: float) -> None:
        self._clear()
        if self._concurrent:
            self.console.print(Text(f"        {printable(stage.id)} is done", style="dim"))
        items = [f"{k.replace('_', ' ')} {text}" for k, v in report.items() if k not in LOGGED and (text := _short(v))]
        line = Text(printable(", ".join([f"{seconds:.1f} s", *items])), style="dim")
        self.console.print(Padding(line, (0, 0, 0, 8), expand=False))

    def waiting(self, stage: Stage) -> None:
        self.console.print(Text(f"        another run is computing {printable(stage.id)}; waiting for it"))

    def _clear(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None


def _short(value: Any) -> str:
    """A report's value for one line; empty for zeros, and for nested values except counts and metrics."""
    if value in (0, None, ""):
        return ""
    if isinstance(value, bool | int | str):
        return str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict) and "ci95" in value:
        interval = f" [{value['ci95'][0]:.2f}, {value['ci95'][1]:.2f}]" if value["ci95"] else ""
        return f"{_short(value['value'])}{interval} (n={value['n']})"
    if isinstance(value, dict) and value and all(isinstance(v, int) for v in value.values()):
        return " ".join(f"{k.replace('_', ' ')}={v}" for k, v in value.items())
    return ""


class SilentView:
    """A `harness.engine.execute.Overview` that draws nothing."""

    def __enter__(self) -> "SilentView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
