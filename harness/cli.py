"""The `harness` command. Only it and the other `cli_*.py` print or exit; exit code 2: the user can mend it."""

import gc
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from typer.exceptions import Abort, TyperException

from harness import __version__, cli_boards, cli_calibrate, cli_data
from harness.errors import HarnessError

if TYPE_CHECKING:
    pass

# Set before anything imports the libraries that read them.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for them reads every installed package
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")  # one view of a run's progress: ours
# Threads that spin while they wait lose most of their time wherever another process wants the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Augment a seed preference set, train DPO, Multi-DPO and their rivals on the same ranked data, "
    "judge every checkpoint, and write the leaderboard: all from one recipe.",
)

RecipeArgument = Annotated[Path, typer.Argument(help="A recipe in YAML; see recipes/.", show_default=False)]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Edit the recipe first: --set seed=1 (repeatable)."),
]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", metavar="FOLDER", help="Where results are kept between runs; else the cache folder's."),
]
BoardsOption = Annotated[
    Path, typer.Option("--leaderboards", metavar="FOLDER", help="Where boards are written, a folder each.")
]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"harness {__version__}")
        raise typer.Exit


MaxCostOption = Annotated[
    float | None,
    typer.Option(
        "--max-cost", metavar="DOLLARS", min=0, help="Stop before this run's judges have cost more; see prices.yaml."
    ),
]


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    recipe: RecipeArgument,
    edits: SetOption = None,
    leaderboards: BoardsOption = Path("leaderboards"),
    store_folder: StoreOption = None,
    max_cost: MaxCostOption = None,
) -> None:
    """Run a recipe from seed to leaderboard. What is finished already is not run again."""
    from rich.console import Console

    from harness.console import RunView, log_to
    from harness.paths import cache_root
    from harness.recipe_file import load_recipe

    started = time.monotonic()
    checked = load_recipe(recipe, edits or ())
    gc.enable()
    from harness.entries import make_entries
    from harness.execute import execute
    from harness.judge_costs import start_spending, summary
    from harness.leaderboard import write_board
    from harness.plan import make_plan
    from harness.public_data import public_data, write_public_data
    from harness.report.page import write_page
    from harness.store import Store

    spending = start_spending(checked, max_cost)
    console = Console(highlight=False)
    folder = leaderboards / checked.name
    log_to(folder / "run.log")
    if checked.evaluation:
        for benchmark in checked.evaluation.benchmarks:
            benchmark.prepare()  # what is to be downloaded, before hours of training rather than after
    plan = make_plan(checked)
    store = Store(store_folder or cache_root() / "store")
    with RunView(console) as view:
        executed = execute(plan, store, view, spending)
    if plan.rows:
        write_board(folder, checked.name, make_entries(checked, plan, executed))
        write_public_data(folder, public_data(checked, plan, executed))
        write_page(folder)
        cli_boards.print_board(folder, console)
    found = len(plan.stages) - executed.ran
    board = (
        f"Board: {folder}/board.md, its page: {folder}/index.html"
        if plan.rows
        else "No methods and no evaluation: no board."
    )
    seconds = time.monotonic() - started
    console.print(
        f"{executed.ran} stages run, {found} found in the store, {seconds:.0f} s in all.", board, soft_wrap=True
    )
    verdicts = [executed.artifacts[stage.key].report for row in plan.rows for stage in row.verdicts.values()]
    if judged := summary(verdicts, spending):
        console.print(judged, soft_wrap=True)
    if "dataset" in plan.data:
        dataset = executed.artifacts[plan.data["dataset"].key].folder
        console.print(f"Ranked dataset: {dataset}/ranked.jsonl, its card: {dataset}/README.md", soft_wrap=True)
    for row in plan.rows:
        if row.policy:
            checkpoint = executed.artifacts[row.policy.key].folder / "checkpoint"
            console.print(f"Checkpoint {row.id}: {checkpoint}", soft_wrap=True)
    if checked.gates:
        from harness.gates import run_gates

        cli_boards.report_gates(run_gates(folder, checked.gates))


@app.command()
def validate(recipe: RecipeArgument, edits: SetOption = None) -> None:
    """Check a recipe without running it: fields, components, files, models, keys."""
    from harness.recipe_file import load_recipe

    checked = load_recipe(recipe, edits or ())
    counts = [f"{len(checked.methods)} methods"] if checked.given_policy else []
    counts += [f"{len(checked.systems)} systems from files"] if checked.systems else []
    print(f"{recipe}: fine ({', '.join(counts)})")


@app.command()
def plan(recipe: RecipeArgument, edits: SetOption = None, store_folder: StoreOption = None) -> None:
    """Show the stages of a recipe: keys, what is in the store already, and what the rest may cost."""
    from rich.console import Console
    from rich.table import Table

    from harness.paths import cache_root
    from harness.plan import make_plan
    from harness.recipe_file import load_recipe
    from harness.stages import Estimate
    from harness.store import Store

    checked = load_recipe(recipe, edits or ())
    store = Store(store_folder or cache_root() / "store")
    table = Table(box=None, header_style="bold")
    table.add_column("stage", overflow="fold")
    for title in ("key", "state", "tokens to\ngenerate", "tokens to\ntrain on", "judge\ncalls"):
        table.add_column(title, no_wrap=True, justify="left" if title in ("key", "state") else "right")
    total, judging = Estimate(), {}
    for stage in make_plan(checked).stages:
        there = store.find(stage.key) is not None
        cost = Estimate() if there else stage.estimate()
        total = Estimate(*(a + b for a, b in zip(total, cost, strict=True)))
        figures = [f"{value:,}" if value else "" for value in cost]
        table.add_row(stage.id, stage.key[:12], "in the store" if there else "to run", *figures)
        if stage.judging and not there and (judged := stage.judging(store)):
            judging[stage.id] = judged
    table.add_section()
    table.add_row("about, in all", "", "", *(f"{value:,}" for value in total), style="bold")
    console = Console(highlight=False)
    console.print(table)
    if judging:
        from harness.console import cost_table

        console.print(cost_table(judging))


app.command()(cli_data.leaks)
app.command("export")(cli_data.export_)
app.command("import")(cli_data.import_)
app.command()(cli_calibrate.calibrate)
app.command()(cli_boards.show)
app.command()(cli_boards.report)
app.command()(cli_boards.gate)
app.command()(cli_boards.merge)
app.add_typer(cli_boards.baseline_app, name="baseline")


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point: errors meant for the user become one line and exit code 2, an interruption exit code 130."""
    # Imports make much that lives and little garbage: collecting takes a sixth of what a short command takes.
    gc.disable()
    signal.signal(signal.SIGTERM, _stop)
    try:
        sys.exit(app(standalone_mode=False))
    except HarnessError as error:
        print(f"harness: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a full disk, a folder that can't be written
        where = f"{error.filename}: " if error.filename else ""
        print(f"harness: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except TyperException as error:
        if str(error):  # without a command, the help is printed and there is no more to say
            print(f"harness: {error}; see harness --help", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, Abort):
        print("harness: stopped; the same command goes on from the last finished stage", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
