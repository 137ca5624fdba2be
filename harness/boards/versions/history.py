"""The boards that a folder has had: a board that another one replaces is kept in `history/`, in a folder of its own.

<board>/history/0001-2026-11-25/    board.json and entries/: a board like any other, for `harness show` and `diff`

A board is kept before the first of its files is replaced. If the process is killed in between, the next one goes on
with the same folder or begins it anew: a folder that was not finished is no board, and is removed.
"""

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from harness.boards.board import Board
from harness.boards.entry import Entry
from harness.boards.folder import is_unfinished, old_board, only_owned, remove_owned, write_owned
from harness.boards.read import entry_file, read_board
from harness.boards.writing import content, own_file
from harness.errors import DataError, StoreError
from harness.outside import LARGEST_TEXT

HISTORY = "history"
KEPT = 20
"""Boards that a folder keeps. The oldest are removed first, but none to whose folder somebody has added a file."""
_NUMBERED = re.compile(r"(\d{4,9})(?:-\d{4}-\d\d-\d\d)?")


def keep_board(folder: Path, entries: Sequence[Entry], there: Board | None = None) -> Path | None:
    """Keep the board that is in a folder before one of these rows replaces it; returns where. None where there is none,
    where its rows are the same, and where its own writing was cut short (it has replaced one that was kept). `there`:
    the board, where it has been read already.

    The folder is to be open with `harness.boards.writing.writing`. Raises StoreError: nothing has been replaced."""
    old = old_board(folder)
    if old is None or is_unfinished(folder) or _has_rows(folder, entries, there):
        return None
    names = ("board.json", *(f"entries/{entry_file(row.id)}" for row in old.rows))
    files = {name: data for name in names if (data := content(own_file(folder, name), LARGEST_TEXT)) is not None}
    try:
        path = _place(folder, files["board.json"])
        own_file(folder, f"{HISTORY}/{path.name}/x")
        write_owned(path, files)
        _drop_oldest(folder)
    except OSError as error:
        raise StoreError(
            f"{folder} keeps its board, for it can't be copied to {HISTORY}/ ({error.strerror or error}): check space "
            "and rights"
        ) from error
    return path


def kept_boards(folder: Path) -> list[Path]:
    """The folders of the boards that a board's folder keeps, oldest first."""
    return [path for path in _numbered(folder) if old_board(path) is not None and not is_unfinished(path)]


def last_kept(board: Path) -> Path:
    """The board that was replaced last in a board's folder (or beside its `board.json`). Raises DataError."""
    folder = board if board.is_dir() else board.parent
    if not (kept := kept_boards(folder)):
        raise DataError(f"{board} has replaced no board: name the one to compare it with, as in harness diff OLD NEW")
    return kept[-1]


def moment(generated: str | None) -> str:
    """When a board was written, as `2026-11-25 10:12 UTC`; empty where that is unknown."""
    when = _when(generated)
    return f"{when:%Y-%m-%d %H:%M} UTC" if when else ""


def _when(generated: str | None) -> datetime | None:
    try:
        when = datetime.fromisoformat(generated or "")
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _has_rows(folder: Path, entries: Sequence[Entry], there: Board | None) -> bool:
    """Whether the board in a folder has these rows, in this order. One that can't be read has others."""
    try:
        old = (there or read_board(folder)).entries
    except DataError:
        return False
    return len(old) == len(entries) and all(
        ours.model_dump(mode="json") == theirs.model_dump(mode="json")
        for ours, theirs in zip(old, entries, strict=True)
    )


def _numbered(folder: Path) -> list[Path]:
    """The folders of the history by number. Raises StoreError for links."""
    history = own_file(folder, f"{HISTORY}/x").parent
    names = [name for name in (os.listdir(history) if history.is_dir() else ()) if _NUMBERED.fullmatch(name)]
    paths = [history / name for name in sorted(names, key=lambda name: (_number(name), name))]
    return [path for path in paths if path.is_dir() and not path.is_symlink()]


def _number(name: str) -> int:
    return int(name.partition("-")[0])


def _place(folder: Path, board_json: bytes) -> Path:
    """Where to keep a board: the last one's folder where it is the same, else one with the next number."""
    for path in _numbered(folder):
        if is_unfinished(path):
            remove_owned(path)
    numbered = _numbered(folder)
    if numbered and content(own_file(numbered[-1], "board.json"), len(board_json)) == board_json:
        return numbered[-1]
    number = _number(numbered[-1].name) + 1 if numbered else 1
    board = old_board(folder)
    when = _when(board.generated if board else None)
    return folder / HISTORY / (f"{number:04d}-{when:%Y-%m-%d}" if when else f"{number:04d}")


def _drop_oldest(folder: Path) -> None:
    """Remove the oldest boards of more than KEPT, unless their folders hold anything else, which somebody put there."""
    droppable = [path for path in kept_boards(folder) if only_owned(path)]
    for path in droppable[: max(0, len(droppable) - KEPT)]:
        remove_owned(path)
