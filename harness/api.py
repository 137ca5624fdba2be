"""The harness from Python: what the commands do, with objects instead of printed lines.

    import harness

    run = harness.run("recipes/quickstart.yaml")
    run.rows["multi-dpo"].metrics["alpaca_eval.win_rate"]
    harness.gate(run, row="multi-dpo", baseline_row="dpo").reason

Everything is imported when it is needed: reading a board takes neither torch nor a recipe. Errors that the user can put
right are HarnessErrors, whose text is the line that the command would print.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.boards.board import Board
from harness.boards.entry import Entry
from harness.boards.read import read_board
from harness.errors import DataError, HarnessError, missing_package
from harness.gate.ask import gate
from harness.gate.check import Result

if TYPE_CHECKING:
    from harness.models.demand.devices import Devices
    from harness.pipeline.estimates import Cost, Estimates
    from harness.pipeline.export.model import Exported
    from harness.pipeline.live.time_left import View
    from harness.pipeline.run import Checkpoint, CompletedRun, Dataset
    from harness.recipe.load import Study

__all__ = ["HarnessError", "PlannedStage", "Run", "RunPlan", "export_model", "gate", "load_board", "plan", "run"]

Source = str | Path | Mapping[str, Any]
"""A recipe: its file, or its data as YAML would give it, whose relative paths are relative to the working folder."""

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# Random number generators and threads are the process's: two runs at once would change each other's results.
_one_at_a_time = threading.RLock()


@dataclass(frozen=True, repr=False)
class Run:
    """A completed run. `seconds`: of all of it. In a notebook it is shown as its board's tables."""

    completed: "CompletedRun"
    seconds: float
    _board: Board | None = field(repr=False)

    @property
    def folder(self) -> Path:
        """The board's folder."""
        return self.completed.folder

    @property
    def board(self) -> Board:
        """The board. Raises DataError where the recipe has neither methods nor an evaluation, and so no board."""
        if self._board is None:
            raise DataError(f"recipe {self.completed.plan.study.name}: no board without methods and evaluation")
        return self._board

    @cached_property
    def rows(self) -> dict[str, Entry]:
        """The board's rows by id, in its order."""
        return {entry.id: entry for entry in self._board.entries} if self._board else {}

    @cached_property
    def checkpoints(self) -> "dict[str, Checkpoint]":
        """The trained policies by row: `path` of the checkpoint, whether it is an `adapter`, and the `base` model."""
        return self.completed.checkpoints

    @cached_property
    def datasets(self) -> "dict[str, Dataset]":
        """The ranked datasets by cell, "" without a sweep: `path`, `card`, `examples()` and `heldout()`."""
        return self.completed.datasets

    @property
    def ran(self) -> int:
        """How many stages were run."""
        return self.completed.executed.ran

    @property
    def reused(self) -> int:
        """How many stages the store had already."""
        return self.completed.reused

    @property
    def spent(self) -> float | None:
        """What this run has paid judges, in dollars; None where a price is unknown."""
        spending = self.completed.spending
        return None if spending.unpriced else spending.spent

    @cached_property
    def gates(self) -> list[Result]:
        """The results of the recipe's gates on this board. Raises DataError for a baseline that can't be read."""
        from harness.gate.recipe import run_gates

        return run_gates(self.board, gates) if (gates := self.completed.plan.gates) else []

    def __repr__(self) -> str:
        name, rows = self.completed.plan.study.name, f"{len(self.rows)} rows" if self._board else "no board"
        stages = f"{self.ran} stages run, {self.reused} reused"
        return f"<Run {name}: {rows}, {stages}, {self.seconds:.0f} s, {self.folder}>"

    def _repr_markdown_(self) -> str:
        from harness.report.notebook import results

        return results(self._board) if self._board else f"`{self!r}`"


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a plan. `kind`: `train`, `verdicts`, ...; `key`: its artifact's name in the store."""

    id: str
    kind: str
    key: str
    in_store: bool


class RunPlan:
    """What a run would do: its stages, which of them the store has, and about what the others cost. Its text is what
    `harness plan` prints."""

    def __init__(self, estimates: "Estimates", on: "Devices | None" = None) -> None:
        self._estimates = estimates
        self._on = on
        self.stages = [
            PlannedStage(stage.id, stage.name, stage.key, stage.key in estimates.stored)
            for stage in estimates.plan.stages
        ]

    @property
    def cost(self) -> "Cost":
        """About what is still to be done: seconds on this machine, tokens, calls of judges, dollars."""
        return self._estimates.left

    def __repr__(self) -> str:
        import io

        from harness.pipeline.plan_view import plan_view
        from harness.printable import terminal

        # Plain text wherever it is shown: notebooks ask for colours, which no text output of theirs has.
        plain: dict[str, Any] = {"force_terminal": False, "force_jupyter": False, "color_system": None}
        console = terminal(file=io.StringIO(), width=120, **plain)
        with console.capture() as capture:
            for part in plan_view(self._estimates, self._on):
                console.print(part)
        return "\n".join(line.rstrip() for line in capture.get().splitlines())


def run(
    recipe: Source,
    *,
    edits: Sequence[str] = (),
    cell: str | None = None,
    leaderboards: str | Path = "leaderboards",
    store: str | Path | None = None,
    max_cost: float | None = None,
    ray: str | None = None,
    progress: bool = True,
    allow_hosts: Sequence[str] = (),
    replace: bool = False,
) -> Run:
    """Run a recipe, or all cells of its sweep, from seed pairs to board, as `harness run` does. Nothing that the store
    has is computed again.

    `edits`: changes like "training.epochs=2", applied first. `cell`: only this cell of a sweep. `leaderboards`: the
    folder in which the board gets a folder. `store`: by default the one in the cache folder. `max_cost`: dollars that
    this run's judges may cost. `ray`: a Ray cluster's address, or "local". `progress`: show it, in a terminal or a
    notebook. `allow_hosts`: servers that may be sent the keys that the recipe names, as for `--allow-host`.
    `replace`: replace the board that is there also where it is another recipe's, or has far more scored prompts.

    In the main thread, an interruption ends the run after the current batch, and the same call goes on from there. A
    second run in this process waits for the first. Raises HarnessError.
    """
    started = time.monotonic()
    from harness.servers.hosts import allowing

    with _one_at_a_time, _one_line_errors(), allowing(_as_list(allow_hosts)):
        from harness.files import store_folder

        study = _study(recipe, edits, cell)
        from harness.pipeline.run import run_study

        folder = store_folder(None if store is None else Path(store))
        boards, view = Path(leaderboards), _view(progress)
        done = run_study(study, boards, folder, view, max_cost=max_cost, ray=ray, replace=replace)
    return Run(done, time.monotonic() - started, done.board)


def plan(
    recipe: Source,
    *,
    edits: Sequence[str] = (),
    cell: str | None = None,
    store: str | Path | None = None,
    on: str | None = None,
    offline: bool = False,
    allow_hosts: Sequence[str] = (),
) -> RunPlan:
    """What `run` would do with a recipe, without running anything. `on`: also what it needs of GPUs, as "h100:8".
    `offline`: fetch nothing. Raises HarnessError."""
    from harness.servers.hosts import allowing

    with _one_line_errors():
        from harness.files import offline as fetching_nothing
        from harness.files import store_folder
        from harness.models.demand.devices import named

        devices = named(on) if on is not None else None
        with fetching_nothing() if offline else nullcontext():
            with allowing(_as_list(allow_hosts)):
                study = _study(recipe, edits, cell, check=not offline, on_gpu=devices is not None)
            from harness.engine.store import Store
            from harness.pipeline.estimates import Estimates
            from harness.pipeline.study import make_study_plan

            folder = store_folder(None if store is None else Path(store))
            return RunPlan(Estimates(make_study_plan(study), Store(folder)), devices)


def export_model(
    source: Run | str | Path,
    row: str,
    out: str | Path | None = None,
    *,
    merge: bool = False,
    dtype: str | None = None,
    base: str | None = None,
    push_to_hub: str | None = None,
    private: bool = False,
    store: str | Path | None = None,
) -> "Exported":
    """Write the trained model of a row, of a run or a board, into a new folder with its tokenizer and card, upload it,
    or both, as `harness export --model` does. Raises HarnessError."""
    if out is None and push_to_hub is None:
        raise HarnessError("export_model: expected a folder, out, or push_to_hub='OWNER/NAME'")
    from harness.pipeline.export.model import export_model as export

    board = source.folder if isinstance(source, Run) else Path(source)
    paths = [None if path is None else Path(path) for path in (out, store)]
    with _one_line_errors():
        return export(
            board, row, paths[0], merge=merge, dtype=dtype, base=base, repo=push_to_hub, private=private, store=paths[1]
        )


def load_board(path: str | Path) -> Board:
    """A board from its folder, its board.json or its folder of entries. Raises DataError."""
    return read_board(Path(path))


def _study(
    recipe: Source, edits: Sequence[str], cell: str | None, *, check: bool = True, on_gpu: bool = False
) -> "Study":
    from harness.recipe.load import load_study

    source = recipe if isinstance(recipe, Mapping) else Path(recipe)
    study = load_study(source, _as_list(edits), check=check, on_gpu=on_gpu)
    return study if cell is None else study.only(cell)


def _as_list(texts: Sequence[str]) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else texts


@contextmanager
def _view(progress: bool) -> "Iterator[View]":
    from harness.engine.interrupts import gently, to_stderr
    from harness.pipeline.progress import RunView, SilentView
    from harness.printable import terminal

    with gently(to_stderr), RunView(terminal()) if progress else SilentView() as view:
        yield view


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """An OSError, of a full disk or a folder that isn't writable, becomes a HarnessError, as in the command line; so
    does the failed import of a package that an extra brings."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise HarnessError(f"{where}{error.strerror or error}") from error
    except ModuleNotFoundError as error:
        if missing := missing_package(error, "this call"):
            raise missing from error
        raise
