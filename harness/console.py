"""What a run looks like in a terminal: one line a stage with a bar, and a log file beside the board."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from harness import interrupts
from harness.spending import JudgeCost, dollars, total
from harness.stages import Stage

LOGGED = frozenset({"seconds", "rows", "micro_batch_size", "trained_parameters"})
"""What a stage reports that is for the log rather than for the screen."""


def cost_table(costs: Mapping[str, JudgeCost]) -> Table:
    """What judging may cost, by stage."""
    table = Table(box=None, header_style="bold", title="Judging", title_justify="left", title_style="bold")
    table.add_column("stage", overflow="fold")
    for title in ("calls", "answered\nalready", "tokens in,\nabout", "tokens out,\nabout", "about", "at most"):
        table.add_column(title, no_wrap=True, justify="right")
    table.add_column("prompts from")
    for name, cost in [*costs.items(), ("in all", total(list(costs.values()), ""))]:
        if name == "in all":
            table.add_section()
        counts = (f"{n:,}" for n in (cost.calls, cost.known, cost.prompt_tokens, cost.reply_tokens))
        table.add_row(name, *counts, dollars(cost.dollars), dollars(cost.at_most), cost.basis)
    return table


class _Notices(logging.Handler):
    """The harness's own warnings belong on the screen too: a user should see that rows were left out."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(Padding(Text(record.getMessage(), style="yellow"), (0, 0, 0, 8), expand=False))


class _Part:
    """The bar of one of several stages that run at once."""

    def __init__(self, bars: Progress, name: str) -> None:
        self._bars, self._name = bars, name
        self._task: Any = None

    def start(self, what: str, total: int | None) -> None:
        """A new part of the stage; an empty `what` ends the last one."""
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(f"{self._name}: {what}", total=total) if what else None

    def advance(self, items: int) -> None:
        if self._task is not None:
            self._bars.advance(self._task, items)


class RunView:
    """Draws a run's progress; satisfies `harness.execute.Reporter`. In a file or pipe it prints one line a stage."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: Any = None
        self._beside = False  # whether stages run at once: what has ended is then named
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
        self._task = self._bars.add_task(what, total=total)

    def advance(self, items: int) -> None:
        if self._task is not None:
            self._bars.advance(self._task, items)
        interrupts.check()  # what the batch has made is kept by now

    def part(self, stage: Stage, node: str) -> "_Part":
        """A bar of its own for a stage that runs beside others, with the machine that it runs on."""
        self._beside = True
        return _Part(self._bars, f"{node} {stage.id}")

    def stage(self, stage: Stage, number: int, total: int) -> None:
        interrupts.check()
        self._clear()
        # A stage of a sweep has its cell in brackets, which is no markup.
        self.console.print(Text.assemble((f"{number:>3}/{total}", "bold"), f" {stage.id}"))

    def done(self, stage: Stage, report: dict[str, Any], seconds: float) -> None:
        self._clear()
        if self._beside:
            self.console.print(Text(f"        {stage.id} is done", style="dim"))
        told = [f"{k.replace('_', ' ')} {text}" for k, v in report.items() if k not in LOGGED and (text := _short(v))]
        line = Text(f"{seconds:.1f} s" + "".join(f", {item}" for item in told), style="dim")
        self.console.print(Padding(line, (0, 0, 0, 8), expand=False))

    def waiting(self, stage: Stage) -> None:
        self.console.print(f"        another run is computing {stage.id}; waiting for it", highlight=False)

    def _clear(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None


def _short(value: Any) -> str:
    """A report's value for one line: nothing for zeros; nested ones are left to the log, but for counts and metrics."""
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


def log_to(path: Path) -> logging.Handler:
    """Send the harness's log, the libraries' warnings and Python's warnings to a file; only errors reach the screen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    return handler
