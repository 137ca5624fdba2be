"""Commands about recipes: run, validate, plan."""

import gc
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness import cli_boards

if TYPE_CHECKING:
    from rich.console import Console

    from harness.execute import Executed
    from harness.recipe_file import Study
    from harness.spending import Spending
    from harness.sweep import StudyPlan

RecipeArgument = Annotated[Path, typer.Argument(help="A recipe in YAML; see recipes/.", show_default=False)]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Edit the recipe first: --set seed=1 (repeatable)."),
]
CellOption = Annotated[
    str | None,
    typer.Option("--cell", metavar="ID", help="Of a sweep only this cell, on a board of its own: see harness plan."),
]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", metavar="FOLDER", help="Where results are kept between runs; else the cache folder's."),
]
BoardsOption = Annotated[
    Path, typer.Option("--leaderboards", metavar="FOLDER", help="Where boards are written, a folder each.")
]
MaxCostOption = Annotated[
    float | None,
    typer.Option(
        "--max-cost", metavar="DOLLARS", min=0, help="Stop before this run's judges have cost more; see prices.yaml."
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


def run(
    recipe: RecipeArgument,
    edits: SetOption = None,
    cell: CellOption = None,
    leaderboards: BoardsOption = Path("leaderboards"),
    store_folder: StoreOption = None,
    max_cost: MaxCostOption = None,
    ray: RayOption = None,
) -> None:
    """Run a recipe, or all cells of its sweep, from seed to leaderboard. What is finished already is not run again."""
    from rich.console import Console

    from harness.console import RunView, log_to
    from harness.paths import cache_root

    started = time.monotonic()
    study = _study(recipe, edits, cell)
    gc.enable()
    from harness.execute import execute
    from harness.interrupts import gently, to_stderr
    from harness.judge_costs import start_spending
    from harness.store import Store
    from harness.sweep import make_study_plan

    spending = start_spending([c.recipe for c in study.cells], max_cost)
    console = Console(highlight=False)
    folder = leaderboards / study.name
    log_to(folder / "run.log")
    for evaluation in (c.recipe.evaluation for c in study.cells):
        for benchmark in evaluation.benchmarks if evaluation else []:
            benchmark.prepare()  # what is to be downloaded, before hours of training rather than after
    plan = make_study_plan(study)
    store = Store(store_folder or cache_root() / "store")
    with gently(to_stderr), RunView(console) as view:
        wanted = study.cells[0].recipe.runtime.resources
        if ray is None:
            executed = execute(plan, store, view, spending, wanted)
        else:
            from harness.ray_execute import execute_on_ray

            executed = execute_on_ray(plan, store, view, spending, ray, wanted)
    _write(folder, plan, executed, console)
    seconds = time.monotonic() - started
    _tell(folder, plan, executed, spending, seconds, console)
    if gates := plan.gates:
        from harness.gates import run_gates

        cli_boards.report_gates(run_gates(folder, gates))


def _study(recipe: Path, edits: list[str] | None, cell: str | None, check: bool = True) -> "Study":
    from harness.recipe_file import Study, load_study

    study = load_study(recipe, edits or (), check=check)
    if cell is None:
        return study
    chosen = study.cell(cell)
    return Study(f"{study.name}.{cell}", (), (chosen,))


def _write(folder: Path, plan: "StudyPlan", executed: "Executed", console: "Console") -> None:
    from harness.entries import make_entries
    from harness.leaderboard import write_board
    from harness.public_data import public_data, write_public_data
    from harness.report.page import write_page

    if plan.rows:
        write_board(folder, plan.study.name, make_entries(plan, executed))
        write_public_data(folder, public_data(plan, executed))
        write_page(folder)
        cli_boards.print_board(folder, console)


def _tell(
    folder: Path, plan: "StudyPlan", executed: "Executed", spending: "Spending", seconds: float, console: "Console"
) -> None:
    """A run's last lines: what was run, what it cost, and where everything lies."""
    from harness.judge_costs import summary

    found = len(plan.stages) - executed.ran
    board = (
        f"Board: {folder}/board.md, its page: {folder}/index.html"
        if plan.rows
        else "No methods and no evaluation: no board."
    )
    console.print(
        f"{executed.ran} stages run, {found} found in the store, {seconds:.0f} s in all.", board, soft_wrap=True
    )
    judged = {stage.key: stage for made in plan.rows for stage in made.row.verdicts.values()}
    if told := summary([executed.artifacts[key].report for key in judged], spending):
        console.print(told, soft_wrap=True)
    if plan.study.axes:
        return  # their datasets and checkpoints are many: `harness cache ls` has them
    if "dataset" in plan.plans[0].data:
        dataset = executed.artifacts[plan.plans[0].data["dataset"].key].folder
        console.print(f"Ranked dataset: {dataset}/ranked.jsonl, its card: {dataset}/README.md", soft_wrap=True)
    for made in plan.rows:
        if made.row.policy:
            checkpoint = executed.artifacts[made.row.policy.key].folder / "checkpoint"
            console.print(f"Checkpoint {made.row.id}: {checkpoint}", soft_wrap=True)


def validate(
    recipe: RecipeArgument,
    edits: SetOption = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Only the recipe itself: not the files, models, packages and keys that it names."
        ),
    ] = False,
) -> None:
    """Check a recipe without running it: fields, components, files, models, keys; of a sweep every cell."""
    study = _study(recipe, edits, None, check=not offline)
    checked = study.cells[0].recipe
    counts = [f"{len(checked.methods)} methods"] if checked.given_policy else []
    counts += [f"{len(checked.systems)} systems from files"] if checked.systems else []
    counts += [f"{len(study.cells)} cells of a sweep"] if study.axes else []
    print(f"{recipe}: fine ({', '.join(counts)})")


def plan(
    recipe: RecipeArgument, edits: SetOption = None, cell: CellOption = None, store_folder: StoreOption = None
) -> None:
    """Show the stages of a recipe: keys, what is in the store already, and what the rest may cost. Of a sweep: its
    cells, the stages that they share, and what is saved against running each cell alone."""
    from rich.console import Console

    from harness.paths import cache_root
    from harness.plan_view import show_plan
    from harness.store import Store
    from harness.sweep import make_study_plan

    study = _study(recipe, edits, cell)
    store = Store(store_folder or cache_root() / "store")
    for part in show_plan(make_study_plan(study), store):
        Console(highlight=False).print(part)
