"""The `harness` command. Only it and the other `cli_*.py` print or exit; exit code 2: the user can mend it."""

import gc
import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer
from typer.exceptions import Abort, TyperException

from harness import __version__, cli_boards, cli_cache, cli_calibrate, cli_data, cli_run
from harness.errors import HarnessError

# Set before anything imports the libraries that read them.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for them reads every installed package
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")  # one view of a run's progress: ours
# Threads that spin while they wait lose most of their time wherever another process wants the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

INTERRUPTED = 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Augment a seed preference set, train DPO, Multi-DPO and their rivals on the same ranked data, "
    "judge every checkpoint, and write the leaderboard: all from one recipe.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command()(cli_run.run)
app.command()(cli_run.validate)
app.command()(cli_run.plan)
app.command()(cli_data.leaks)
app.command("export")(cli_data.export_)
app.command("import")(cli_data.import_)
app.command()(cli_calibrate.calibrate)
app.command()(cli_boards.show)
app.command()(cli_boards.report)
app.command()(cli_boards.gate)
app.command()(cli_boards.merge)
app.add_typer(cli_boards.baseline_app, name="baseline")
app.add_typer(cli_cache.app, name="cache")


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point: errors meant for the user become one line and exit code 2, an interruption exit code 130."""
    # Imports make much that lives and little garbage: collecting takes a sixth of what a short command takes.
    gc.disable()
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer turns the exception into its exit code
            raise KeyboardInterrupt
        sys.exit(code)
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
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
