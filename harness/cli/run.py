"""Commands about recipes: run, validate, plan."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import AllowHostOption, print_board, question, report_gates, say, short

if TYPE_CHECKING:
    from rich.console import Console

    from harness.pipeline.live.time_left import View
    from harness.pipeline.run import CompletedRun
    from harness.recipe.load import Study

RecipeArgument = Annotated[Path, typer.Argument(help="A recipe in YAML; see recipes/.", show_default=False)]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Edit the recipe first: --set seed=1 (repeatable)."),
]
CellOption = Annotated[
    str | None,
    typer.Option("--cell", metavar="ID", help="Only this cell of a sweep, on a board of its own; see harness plan."),
]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="FOLDER", help="Where results are kept between runs; by default in the cache folder."
    ),
]
BoardsOption = Annotated[
    Path, typer.Option("--leaderboards", metavar="FOLDER", help="Where boards are written, one folder each.")
]
MaxCostOption = Annotated[
    float | None,
    typer.Option(
        "--max-cost",
        metavar="DOLLARS",
        min=0,
        help="Stop before this run's judges cost more than this; for prices see prices.yaml.",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Run the stages on a Ray cluster: HOST:PORT, auto, or local to start one on this machine.",
    ),
]
ReplaceOption = Annotated[
    bool,
    typer.Option(
        "--replace",
        help="Replace the board that is there also where it is another recipe's, or has far more scored prompts.",
    ),
]
DetectOption = Annotated[
    float | None,
    typer.Option(
        "--detect",
        metavar="DIFFERENCE",
        help="Show instead how many seeds, prompts, answers and verdicts show a true difference of this size, in the "
        "unit of the primary figure's differences, and what they cost.",
    ),
]
PowerOption = Annotated[
    float | None, typer.Option("--power", metavar="SHARE", help="For --detect: with this power; 0.8 by default.")
]
PilotOption = Annotated[
    Path | None, typer.Option("--pilot", metavar="BOARD", help="For --detect: a board that shows what rows differ by.")
]
AssumeOption = Annotated[
    str | None,
    typer.Option(
        "--assume",
        metavar="SDS",
        help="For --detect: what they differ by, as training=0.6,prompts=8,rest=24,judge=5, each optional: standard "
        "deviations of one method over its training seeds, and of a difference on one prompt.",
    ),
]


OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="DEVICE[:COUNT]",
        help="GPU-hours and memory of each stage on a GPU that isn't here, as h100 or h100:8; from data sheets.",
    ),
]
PlanOfflineOption = Annotated[
    bool,
    typer.Option("--offline", help="Fetch nothing: sizes of what isn't here are from names and tables, or unknown."),
]


def run(
    recipe: RecipeArgument,
    edits: SetOption = None,
    cell: CellOption = None,
    leaderboards: BoardsOption = Path("leaderboards"),
    store: StoreOption = None,
    max_cost: MaxCostOption = None,
    ray: RayOption = None,
    allow_host: AllowHostOption = None,
    replace: ReplaceOption = False,
) -> None:
    """Run a recipe, or all cells of its sweep, from seed pairs to leaderboard. Finished stages are not run again."""
    from harness.files import store_folder
    from harness.printable import terminal
    from harness.servers.hosts import allowing

    started = time.monotonic()
    with allowing(allow_host, question()):
        study = _study(recipe, edits, cell)
        from harness.pipeline.run import run_study  # after the recipe: its mistakes are reported at once

        console, folder = terminal(), store_folder(store)
        done = run_study(study, leaderboards, folder, _view(console), max_cost=max_cost, ray=ray, replace=replace)
    if done.board:
        print_board(done.board, console)
    _summarise(done, time.monotonic() - started, console)
    if done.board and (gates := done.plan.gates):
        from harness.gate.recipe import run_gates

        report_gates(run_gates(done.board, gates))


@contextmanager
def _view(console: "Console") -> "Iterator[View]":
    """The run's progress; Ctrl-C ends it after the current batch."""
    from harness.engine.interrupts import gently, to_stderr
    from harness.pipeline.progress import RunView

    with gently(to_stderr, last=True), RunView(console) as view:
        yield view


def _study(
    recipe: Path, edits: list[str] | None, cell: str | None, check: bool = True, on_gpu: bool = False
) -> "Study":
    from harness.recipe.load import load_study

    study = load_study(recipe, edits or (), check=check, on_gpu=on_gpu)
    return study if cell is None else study.only(cell)


def _summarise(done: "CompletedRun", seconds: float, console: "Console") -> None:
    """A run's last lines: what was run, what it cost, and where everything is."""
    board = (
        f"Board: {done.folder}/board.md, its page: {done.folder}/index.html"
        if done.plan.rows
        else "No methods and no evaluation: no board."
    )
    counts = f"{done.executed.ran} stages run, {done.reused} found in the store, {seconds:.0f} s in all."
    lines = [f"{counts} {board}", *([done.judging] if done.judging else [])]
    if done.kept:
        lines.append(f"The board that was here is kept in {done.kept}; what changed: harness diff {done.folder}")
    if not done.plan.study.axes:  # a sweep has many datasets and checkpoints: `harness cache ls` lists them
        lines += [f"Ranked dataset: {data.path}, its card: {data.card}" for data in done.datasets.values()]
        lines += [f"Checkpoint {row}: {checkpoint.path}" for row, checkpoint in done.checkpoints.items()]
    for line in lines:
        console.print(line, soft_wrap=True)


@short
def validate(
    recipe: RecipeArgument,
    edits: SetOption = None,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Check only the recipe itself: no files, models, packages or keys it names."),
    ] = False,
    allow_host: AllowHostOption = None,
) -> None:
    """Check a recipe, and every cell of a sweep, without running it: fields, components, files, models, keys."""
    from harness.judging.retirements import retirement_lines, today
    from harness.servers.hosts import allowing

    with allowing(allow_host):
        study = _study(recipe, edits, None, check=not offline)
    checked = study.cells[0].recipe
    counts = [f"{len(checked.methods)} methods"] if checked.policy else []
    counts += [f"{len(checked.systems)} systems from files"] if checked.systems else []
    counts += [f"{len(study.cells)} cells of a sweep"] if study.axes else []
    counts += ["files and models not checked"] if offline else []
    say(f"{recipe}: fine ({', '.join(counts)})")
    for line in retirement_lines([cell.recipe for cell in study.cells], today()):
        say(f"{recipe}: warning: {line}", error=True)


@short
def plan(
    recipe: RecipeArgument,
    edits: SetOption = None,
    cell: CellOption = None,
    store: StoreOption = None,
    detect: DetectOption = None,
    power: PowerOption = None,
    pilot: PilotOption = None,
    assume: AssumeOption = None,
    on: OnOption = None,
    offline: PlanOfflineOption = False,
    allow_host: AllowHostOption = None,
) -> None:
    """Show a recipe's stages with their keys, which ones the store has, and what the others may cost. For a sweep: its
    cells, the stages they share, and what sharing saves compared with running each cell alone. With --on: also what it
    needs of GPUs. With --detect: the designs that show a difference between methods, the cheapest first."""
    from contextlib import nullcontext

    from harness.engine.store import Store
    from harness.errors import RecipeError
    from harness.files import offline as fetching_nothing
    from harness.files import store_folder
    from harness.models.demand.devices import named
    from harness.pipeline.estimates import Estimates
    from harness.pipeline.plan_view import plan_view
    from harness.pipeline.study import make_study_plan
    from harness.printable import terminal
    from harness.servers.hosts import allowing

    devices = named(on) if on is not None else None
    options = {"--power": power, "--pilot": pilot, "--assume": assume}
    if detect is None and (given := [name for name, value in options.items() if value is not None]):
        raise RecipeError(
            f"{given[0]} is for --detect; expected both, as in --detect 2.0 {given[0]} {options[given[0]]}"
        )
    with allowing(allow_host), fetching_nothing() if offline else nullcontext():
        study = _study(recipe, edits, cell, check=not offline, on_gpu=devices is not None)
        folder, first = Store(store_folder(store)), None
        if detect is None:
            parts = plan_view(Estimates(make_study_plan(study), folder), devices)
        else:
            from harness.pipeline.detect.search import Wanted
            from harness.pipeline.detect.search import detect as found_for
            from harness.pipeline.detect.view import detect_view, first_command

            wanted = Wanted(detect, 0.8 if power is None else power, pilot, assume or "")
            found = found_for(lambda more: _study(recipe, [*(edits or []), *more], cell, check=False), folder, wanted)
            parts = list(detect_view(found))
            first = first_command(found, str(recipe), edits or (), cell)
    console = terminal()
    for part in parts:
        console.print(part)
    if first is not None:
        say(f"The first of them: {first}")
