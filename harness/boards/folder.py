"""What a board owns in its folder. Only these files are ever replaced or removed; nothing else is touched.

`board.files.json` lists the files that the harness has written. Boards of earlier versions have no such list: they own
the files that the harness itself writes for the rows of their `board.json`.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from harness.boards.entry import Entry
from harness.boards.read import DATA, entry_file
from harness.boards.writing import content, own_file, replace_files
from harness.errors import DataError, StoreError, quoted
from harness.files import file_name
from harness.outside import LARGEST_TEXT, parse_json

MANIFEST = "board.files.json"
DRAWN = ("board.json", "board.md", "board.csv", "comparisons.csv", "index.html")
"""Files that every board may have beside entries and data."""
RECIPES_GOLD = "gold/recipe.jsonl"
"""The gold verdicts of its recipe. Others in that folder are people's, and no run replaces them."""


class OldRow(NamedTuple):
    """A row that a `board.json` lists. `recipe`: the name of the recipe that it came from, if recorded."""

    id: str
    recipe: str | None
    benchmarks: frozenset[str]


class OldBoard(NamedTuple):
    """What the `board.json` in a folder says of itself. `generated`: when it was written, if it says so in words."""

    name: str
    rows: tuple[OldRow, ...]
    generated: str | None = None


def old_board(folder: Path) -> OldBoard | None:
    """The board in a folder; None where there is no `board.json`, or one of something else."""
    try:
        data = parse_json(content(own_file(folder, "board.json"), LARGEST_TEXT) or b"", nan="none")
        rows = tuple(_old_row(row) for row in data["rows"])
        when = data.get("generated")
        stamp = when if isinstance(when, str) else None
        return OldBoard(data["board"], rows, stamp) if isinstance(data["board"], str) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _old_row(row: Any) -> OldRow:
    about = row.get("provenance", {})
    recipe, benchmarks = about.get("recipe"), about.get("benchmarks")
    name = recipe.get("name") if isinstance(recipe, dict) else None
    if not isinstance(row["id"], str):
        raise TypeError("a row's id is text")
    row["id"].encode()  # not half of a surrogate pair, which no file name can hold
    return OldRow(row["id"], name if isinstance(name, str) else None, frozenset(benchmarks or ()))


def owned_files(folder: Path) -> frozenset[str]:
    """Names of the files in a board's folder that the harness has written, relative to it."""
    old = old_board(folder)
    names = {"board.json", *(f"entries/{entry_file(row.id)}" for row in old.rows)} if old else set()
    listed = _listed(folder)
    if listed is not None:
        names |= listed
    elif old:
        names |= {*DRAWN} | _unlisted_data(folder, old)
    return frozenset(name for name in names if os.path.lexists(folder / name))


def _listed(folder: Path) -> set[str] | None:
    """The names in `board.files.json`; None without one. Names that the harness never writes are ignored: the list may
    be a stranger's."""
    names = _manifest_of(folder).get("files")
    return {name for name in names if isinstance(name, str) and _may_list(name)} if isinstance(names, list) else None


def _manifest_of(folder: Path) -> dict[str, Any]:
    try:
        data = parse_json(content(own_file(folder, MANIFEST), LARGEST_TEXT) or b"")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _may_list(name: str) -> bool:
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        return False
    if name in (*DRAWN, RECIPES_GOLD):
        return True
    return (parts[0] == "entries" and len(parts) == 2) or (parts[0] == DATA and len(parts) > 2)


def _unlisted_data(folder: Path, old: OldBoard) -> set[str]:
    """Files in `data` that are named as the harness names those of the old board's rows and benchmarks."""
    rows = {file_name(row.id) for row in old.rows}
    names = set()
    for benchmark in frozenset[str]().union(*(row.benchmarks for row in old.rows)):
        if not _may_list(f"{DATA}/{benchmark}/x"):
            continue
        for path, _, files in os.walk(folder / DATA / benchmark):  # follows no links
            for file in files:
                parts = (*Path(path).relative_to(folder / DATA / benchmark).parts, file)
                is_row = bool(rows & {*parts[:-1], file.rpartition(".")[0]})
                is_shared = file == "question.jsonl" or (
                    parts[0] == "model_judgment" and file.endswith(("_single.jsonl", "_pair.jsonl"))
                )
                if is_row or is_shared:
                    names.add("/".join((DATA, benchmark, *parts)))
    return names


def benchmarks_of(entries: Iterable[Entry]) -> set[str]:
    """The benchmarks that rows were judged on."""
    return {name for entry in entries for name in (*entry.provenance.benchmarks, *entry.outcomes)}


def data_files(folder: Path, benchmarks: Collection[str]) -> list[Path]:
    """The files of these benchmarks in the `data` folder of a board, in order. Raises DataError where that, or a folder
    in it, is a link."""
    files = []
    try:
        data = own_file(folder, f"{DATA}/x").parent
        for benchmark in sorted(set(benchmarks) & set(os.listdir(data) if data.is_dir() else ())):
            for inner, folders, names in os.walk(own_file(folder, f"{DATA}/{benchmark}/x").parent):
                folders.sort()
                for name in folders:  # links to folders are among them, though they are not entered
                    own_file(folder, (Path(inner) / name / "x").relative_to(folder).as_posix())
                files += [Path(inner) / name for name in sorted(names)]
    except StoreError as error:
        raise DataError(str(error)) from None
    return files


def check_replaceable(
    folder: Path, files: Collection[str], rows: Collection[tuple[str, str | None]], recipes: Collection[str] = ()
) -> None:
    """Raises StoreError, in one line, if a board can't be written without losing what isn't its own: a file that the
    harness has not written where one of `files` must go, or rows of other recipes than `recipes`. `rows`: id and recipe
    of the new board's rows."""
    old = old_board(folder)
    if old is None:
        entries = {f"entries/{path.name}" for path in own_file(folder, "entries/x").parent.glob("*.json")}
        files = {*files, *entries}
    else:
        _check_rows(folder, old, rows, recipes)
    if (name := foreign_file(folder, files)) is not None:
        _refuse(folder, f"has a file {name} that the harness did not write")


def foreign_file(folder: Path, files: Collection[str]) -> str | None:
    """A file that the harness has not written, where one of `files` or their list must go; None if there is none."""
    owned = owned_files(folder) | ({MANIFEST} if _listed(folder) is not None else set())
    foreign = (name for name in sorted({*files, MANIFEST} - owned) if os.path.lexists(own_file(folder, name)))
    return next(foreign, None)


def _check_rows(
    folder: Path, old: OldBoard, rows: Collection[tuple[str, str | None]], recipes: Collection[str]
) -> None:
    for row in old.rows:
        if (row.recipe or old.name) not in recipes and (row.id, row.recipe) not in rows:
            recipe = f" of recipe {quoted(row.recipe)}" if row.recipe else ""
            _refuse(folder, f"holds row {quoted(row.id)}{recipe}, which would be lost")


def _refuse(folder: Path, what: str) -> NoReturn:
    raise StoreError(f"{folder} {what}; it is kept: write elsewhere, or replace it with --replace")


def write_owned(
    folder: Path, files: Mapping[str, str] | Mapping[str, bytes], among: Callable[[str], bool] = lambda name: False
) -> None:
    """Write files, by their names in the folder. Of the files that the folder owns, those `among` which `files` are all
    that stay are removed if they are not in it. The folder is to be open with `writing`. Raises StoreError for links,
    and OSError."""
    owned, manifest = owned_files(folder), own_file(folder, MANIFEST)
    stale = {name for name in owned if among(name)} - set(files)
    texts = {own_file(folder, name): _encoded(text) for name, text in files.items()}
    first = {path: data for path, data in texts.items() if content(path, len(data)) != data}
    last = {manifest: _manifest((owned | set(files)) - stale)}
    if first or stale:
        # What is written is listed before it is there, and what is removed until it is gone: a run may be killed.
        first = {manifest: _manifest(owned | set(files), unfinished=True), **first}
    elif content(manifest, len(last[manifest])) == last[manifest]:
        return
    replace_files(first, [own_file(folder, name) for name in sorted(stale)], last)
    for name in stale:
        _remove_empty(folder, (folder / name).parent)


def only_owned(folder: Path) -> bool:
    """Whether a folder holds nothing but what the harness has written there; links count as something else."""
    owned = {*owned_files(folder), MANIFEST}
    for inner, folders, names in os.walk(folder):  # follows no links
        relative = Path(inner).relative_to(folder)
        if any(os.path.islink(Path(inner) / name) for name in (*folders, *names)):
            return False
        if any((relative / name).as_posix() not in owned for name in names):
            return False
    return True


def remove_owned(folder: Path) -> None:
    """Remove what the harness has written into a folder, and the folder unless it holds anything else. Whoever is
    killed on the way leaves an unfinished board. Raises StoreError for links, and OSError."""
    owned, manifest = owned_files(folder), own_file(folder, MANIFEST)
    stale = [own_file(folder, name) for name in sorted(owned)]
    replace_files({manifest: _manifest(owned, unfinished=True)}, [*stale, manifest])
    for name in owned:
        _remove_empty(folder, (folder / name).parent)
    for inner in (folder / "entries", folder):
        if inner.is_dir() and not os.listdir(inner):
            inner.rmdir()


def is_unfinished(folder: Path) -> bool:
    """Whether the last process that wrote a board's folder has ended in the middle of it."""
    return bool(_manifest_of(folder).get("unfinished"))


def _encoded(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode(errors="backslashreplace")


def _manifest(names: Collection[str], **state: bool) -> bytes:
    return (json.dumps({"files": sorted(names), **state}, indent=1, ensure_ascii=False) + "\n").encode()


def _remove_empty(folder: Path, inner: Path) -> None:
    while inner not in (folder, folder / "entries"):
        try:
            inner.rmdir()
        except OSError:  # not empty
            return
        inner = inner.parent
