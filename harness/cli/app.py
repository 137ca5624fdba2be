"""The `harness` command: its subcommands. `start` runs it."""

import os
from typing import Annotated

import typer

from harness import __version__
from harness.cli import boards, calibrate, components, data, gate, label, prices, run, store
from harness.cli.ci import history, journals
from harness.cli.console import log_printably, say, short
from harness.cli.own import init, reference

# Set before anything imports the libraries that read them.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # pydantic would look through every installed package
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


def _version(is_asked: bool) -> None:
    if is_asked:
        say(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    log_printably()


app.command()(init.init)
app.command()(run.run)
app.command()(run.validate)
app.command()(run.plan)
app.command()(data.leaks)
app.command("export")(data.export_)
app.command("import")(data.import_)
app.command()(calibrate.calibrate)
app.command()(prices.prices)
app.command()(short(components.components))
app.command()(short(reference.fields))
app.command()(short(reference.schema))
app.command()(boards.show)
app.command()(boards.report)
app.command()(gate.gate)
app.command()(label.label)
app.command()(boards.merge)
app.command()(boards.diff)
app.command()(history.history)
app.add_typer(gate.baseline_app, name="baseline")
store.app.command("export")(journals.export_)
store.app.command("import")(journals.import_)
app.add_typer(store.app, name="cache")
