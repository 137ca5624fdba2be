"""`harness cache export FILE --journals` and `harness cache import FILE`."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import say, short
from harness.cli.store import StoreOption


@short
def export_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, a tar.gz.", show_default=False)],
    journals: Annotated[bool, typer.Option("--journals", help="What judges have replied.")] = False,
    store: StoreOption = None,
) -> None:
    """Write all verdicts of the store to one small file, so that another machine asks for none of them again."""
    from harness.cli.store import open_store
    from harness.errors import DataError
    from harness.judging.archive import export_verdicts

    if not journals:
        raise DataError("harness cache export: say what to export: --journals, the verdicts of judges")
    done = export_verdicts(open_store(store), file)
    say(f"{file}: {_counted(done.verdicts, 'verdict')} of {_counted(done.judges, 'judge')}")


@short
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `harness cache export`.", show_default=False)],
    store: StoreOption = None,
) -> None:
    """Add the verdicts of a file to the store, which is made if it isn't there. They are believed: take files only from
    where you would take verdicts."""
    from harness.engine.store import Store
    from harness.files import store_folder
    from harness.judging.archive import import_verdicts

    done = import_verdicts(Store(store_folder(store)), file)
    say(f"{file}: {_counted(done.verdicts, 'verdict')} of {_counted(done.judges, 'judge')}, {done.new:,} of them new")
    if done.other:
        say(f"{file}: {_counted(done.other, 'verdict')} differ from the store's, which stay", error=True)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
