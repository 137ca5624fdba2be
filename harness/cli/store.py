"""Commands about the store: ls, verify, gc. Its verdicts in a file: see `ci.journals`."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.engine.maintenance import ArtifactListing
    from harness.engine.store import Store

from harness.cli.console import say, say_json, short

app = typer.Typer(no_args_is_help=True, help="Maintain the store: list it, check it, remove what nothing needs.")

StoreOption = Annotated[
    Path | None, typer.Option("--store", metavar="FOLDER", help="The store; by default the one in the cache folder.")
]
BoardsOption = Annotated[
    Path, typer.Option("--leaderboards", metavar="FOLDER", help="Name these boards beside the artifacts they need.")
]


@app.callback()
def _cache() -> None:
    pass


def open_store(folder: Path | None) -> "Store":
    """The store that is there. Raises StoreError."""
    from harness.engine.store import Store
    from harness.errors import StoreError
    from harness.files import store_folder

    root = store_folder(folder)
    if not root.is_dir():
        raise StoreError(f"{root}: there is no store; give its folder with --store, or set HARNESS_HOME")
    return Store(root)


@app.command("ls")
@short
def list_(
    store: StoreOption = None,
    leaderboards: BoardsOption = Path("leaderboards"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """List artifacts: what each is, which recipe it is of, its size, and what needs it. In the order of a run."""
    from rich.filesize import decimal

    from harness.boards.read import stage_ids
    from harness.engine.maintenance import leftovers, list_artifacts, size
    from harness.printable import terminal
    from harness.stage_kinds import STAGE_KINDS

    opened = open_store(store)
    boards = sorted(path.parent for path in leaderboards.glob("*/board.json"))
    order = {stage: number for number, stage in enumerate(STAGE_KINDS)}
    artifacts = sorted(
        list_artifacts(opened, {board: stage_ids(board) for board in boards}),
        key=lambda a: (order.get(a.stage, len(order)), a.stage, a.names, a.made),
    )
    journals = sorted(opened.journals.rglob("*.jsonl"))
    left = leftovers(opened)
    if as_json:
        listing = {
            "store": str(opened.root),
            "artifacts": [artifact._asdict() for artifact in artifacts],
            "journals": [{"path": str(p.relative_to(opened.root)), "bytes": size(p)} for p in journals],
            "leftovers": [{"path": str(p.relative_to(opened.root)), "bytes": size(p)} for p in left],
        }
        say_json(listing, indent=1)
        return
    console = terminal()
    console.print(_table(artifacts))
    sizes = [sum(a.bytes for a in artifacts), sum(map(size, journals)), sum(map(size, left))]
    console.print(
        f"{len(artifacts):,} artifacts, {decimal(sizes[0])}; {len(journals):,} journals, {decimal(sizes[1])}; "
        f"{len(left):,} leftovers, {decimal(sizes[2])}; in {opened.root}",
        soft_wrap=True,
    )


def _table(artifacts: "Sequence[ArtifactListing]") -> "RenderableType":
    """An artifact's names, and below them what it was made with and what needs it; without a name, its kind."""
    from rich.filesize import decimal
    from rich.table import Table
    from rich.text import Text

    from harness.printable import printable

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("artifact", "size", "made", "what it is"):
        table.add_column(title, no_wrap=title != "what it is", justify="right" if title == "size" else "left")
    for a in artifacts:
        needed = [f"{n} {stage}" if n > 1 else stage for stage, n in Counter(a.used_by).items()]
        needed += [f"board {board}" for board in a.boards]
        lines = [*a.names, a.about] if a.names else [": ".join(filter(None, (a.stage, a.about)))]
        what = Text("\n".join(printable(line) for line in lines if line))
        if needed:
            what.append(f"\nneeded by {printable(', '.join(needed))}", style="dim")
        date = datetime.fromtimestamp(a.made, UTC).strftime("%Y-%m-%d")
        table.add_row(a.key[:12], decimal(a.bytes), date, what)
    return table


@app.command()
def verify(
    store: StoreOption = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove what is broken; a run makes it again.")] = False,
) -> None:
    """Check every artifact and journal against what was recorded when it was made. Exit code 2: something is broken."""
    from harness.engine.journal_line import set_aside
    from harness.engine.maintenance import artifacts, find_damage, remove

    opened = open_store(store)
    broken = list(find_damage(opened))
    folders = list(dict.fromkeys(fault.artifact for fault in broken if fault.artifact))
    removed = remove(opened, folders) if delete else []
    for journal in dict.fromkeys(fault.path for fault in broken if fault.line) if delete else ():
        set_aside(journal)
    for fault in broken:
        advice = ""
        if fault.artifact:
            advice = "removed" if fault.artifact in removed else "--delete removes the artifact; a run makes it again"
        elif fault.line:
            advice = f"{'moved' if delete else '--delete moves it'} to {fault.path.name}.damaged"
        text = "; ".join(filter(None, (f"{fault.path}: {fault.text}", advice)))
        say(f"harness cache: {text}", error=True)
    sound = len(artifacts(opened)) - len(folders) + len(removed)
    say(f"{sound:,} artifacts are intact, {len(folders):,} are damaged; {len(broken):,} problems in all")
    if any(fault.artifact not in removed and not (delete and fault.line) for fault in broken):
        raise typer.Exit(2)


@app.command()
def gc(
    keep: Annotated[
        list[Path] | None, typer.Option("--keep", metavar="BOARD", help="A board whose rows stay reproducible.")
    ] = None,
    boards: Annotated[list[Path] | None, typer.Argument(metavar="[BOARD]...", help="More boards to keep.")] = None,
    store: StoreOption = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Also remove the checkpoints that interrupted trainings would resume from."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
) -> None:
    """Remove artifacts that no kept board and no live run needs, and what dead runs left behind. Journals are kept:
    they hold replies that were paid for."""
    from rich.filesize import decimal

    from harness.boards.read import stage_keys
    from harness.engine.maintenance import remove, size, unneeded
    from harness.engine.runs import collecting
    from harness.errors import DataError

    opened = open_store(store)
    if not (kept := [*(keep or ()), *(boards or ())]):
        raise DataError("cache gc: no board to keep, so that everything would be removed; name boards: --keep BOARD")
    with collecting(opened):
        garbage = unneeded(opened, {board: stage_keys(board) for board in kept}, partial)
        sizes = {folder: size(folder) for folder in garbage.folders}
        removed = garbage.folders if dry_run else remove(opened, garbage.folders)
    for folder in removed:
        action = "would remove" if dry_run else "removed"
        say(f"{action} {folder.relative_to(opened.root)} ({decimal(sizes[folder])})")
    busy = len(garbage.folders) - len(removed)
    say(
        f"{len(removed):,} folders, {decimal(sum(sizes[f] for f in removed))}; {garbage.remaining:,} artifacts are kept"
        + (f"; {busy:,} are in use by a run and stay" if busy else "")
    )
