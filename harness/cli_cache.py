"""Commands about the store: ls, verify, gc."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.store import Store

app = typer.Typer(no_args_is_help=True, help="Look after the store: what is in it, what is broken, what can go.")

StoreOption = Annotated[
    Path | None, typer.Option("--store", metavar="FOLDER", help="The store; else the cache folder's.")
]
BoardsOption = Annotated[
    Path, typer.Option("--leaderboards", metavar="FOLDER", help="Whose boards are named beside what they need.")
]


@app.callback()
def _cache() -> None:
    pass


def _open(folder: Path | None) -> "Store":
    from harness.errors import StoreError
    from harness.paths import cache_root
    from harness.store import Store

    root = folder or cache_root() / "store"
    if not root.is_dir():
        raise StoreError(f"{root}: there is no store; give its folder with --store, or set HARNESS_HOME")
    return Store(root)


@app.command("ls")
def list_(
    store_folder: StoreOption = None,
    leaderboards: BoardsOption = Path("leaderboards"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """List artifacts and journals: how large they are, and what needs them."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    from harness.cache import leftovers, listed, size

    store = _open(store_folder)
    boards = sorted(path.parent for path in leaderboards.glob("*/board.json"))
    kept = sorted(listed(store, boards), key=lambda a: (a.stage, a.made))
    journals = sorted(store.journals.rglob("*.jsonl"))
    left = leftovers(store)
    if as_json:
        found = {
            "store": str(store.root),
            "artifacts": [artifact._asdict() for artifact in kept],
            "journals": [{"path": str(p.relative_to(store.root)), "bytes": size(p)} for p in journals],
            "leftovers": [{"path": str(p.relative_to(store.root)), "bytes": size(p)} for p in left],
        }
        print(json.dumps(found, indent=1))
        return
    table = Table(box=None, header_style="bold")
    for title in ("artifact", "stage", "size", "made", "needed by", "boards"):
        table.add_column(
            title, no_wrap=title in ("artifact", "size", "made"), justify="right" if title == "size" else "left"
        )
    for a in kept:
        made = datetime.fromtimestamp(a.made, UTC).strftime("%Y-%m-%d %H:%M")
        users = ", ".join(f"{n} {stage}" if n > 1 else stage for stage, n in _counted(a.used_by).items())
        table.add_row(a.key[:12], a.stage, decimal(a.bytes), made, users or "–", ", ".join(a.boards) or "–")
    console = Console(highlight=False)
    console.print(table)
    sizes = [sum(a.bytes for a in kept), sum(map(size, journals)), sum(map(size, left))]
    console.print(
        f"{len(kept):,} artifacts, {decimal(sizes[0])}; {len(journals):,} journals, {decimal(sizes[1])}; "
        f"{len(left):,} leftovers, {decimal(sizes[2])}; in {store.root}",
        soft_wrap=True,
    )


def _counted(names: tuple[str, ...]) -> dict[str, int]:
    return {name: names.count(name) for name in dict.fromkeys(names)}


@app.command()
def verify(
    store_folder: StoreOption = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove broken artifacts: they are made again.")] = False,
) -> None:
    """Check every artifact and journal against what was recorded when it was made. Exit code 2: something is broken."""
    from harness.cache import artifacts, faults, remove
    from harness.plain_yaml import one_line

    store = _open(store_folder)
    broken = list(faults(store))
    folders = list(dict.fromkeys(fault.artifact for fault in broken if fault.artifact))
    gone = remove(store, folders) if delete else []
    for fault in broken:
        advice = ""
        if fault.artifact:
            advice = (
                "; removed" if fault.artifact in gone else "; --delete removes the artifact, and a run makes it again"
            )
        print(f"harness cache: {one_line(f'{fault.path}: {fault.text}{advice}')}", file=sys.stderr)
    sound = len(artifacts(store)) - len(folders) + len(gone)
    print(f"{sound:,} artifacts are as they were made, {len(folders):,} are not; {len(broken):,} faults in all")
    if (broken and len(gone) < len(folders)) or any(fault.artifact is None for fault in broken):
        raise typer.Exit(2)


@app.command()
def gc(
    keep: Annotated[
        list[Path] | None, typer.Option("--keep", metavar="BOARD", help="A board whose rows stay reproducible.")
    ] = None,
    boards: Annotated[list[Path] | None, typer.Argument(metavar="[BOARD]...", help="More boards to keep.")] = None,
    store_folder: StoreOption = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Also remove what stopped trainings would go on from.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove artifacts that no kept board needs, and what dead runs left. Journals, with what was paid for, stay."""
    from rich.filesize import decimal

    from harness.cache import remove, size, unneeded
    from harness.errors import DataError

    store = _open(store_folder)
    if not (kept := [*(keep or ()), *(boards or ())]):
        raise DataError("cache gc: no board is to be kept, so that all would go; name those that are: --keep BOARD")
    found = unneeded(store, kept, partial)
    sizes = {folder: size(folder) for folder in found.folders}
    gone = found.folders if dry_run else remove(store, found.folders)
    for folder in gone:
        print(f"{'would remove' if dry_run else 'removed'} {folder.relative_to(store.root)} ({decimal(sizes[folder])})")
    busy = len(found.folders) - len(gone)
    print(
        f"{len(gone):,} folders, {decimal(sum(sizes[f] for f in gone))}; {found.kept:,} artifacts are kept"
        + (f"; {busy:,} are being made by a run and stay" if busy else "")
    )
