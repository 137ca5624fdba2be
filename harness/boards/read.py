"""Leaderboards on disk: one entry file per row, and `board.json`, `board.md` and `board.csv` written from them.

<board>/entries/<id>.json   a row with its outcomes per prompt: the source of truth, and all that a merge needs
<board>/board.json          the rows in order, with metrics and provenance; figures over training seeds
"""

import json
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import Field, ValidationError

from harness.boards.entry import Board, BoardRow, Entry
from harness.boards.training_seeds import SeedGroup
from harness.errors import DataError, nearest, quoted
from harness.figures import Figure
from harness.files import file_name
from harness.stats.paired import Comparison
from harness.types import Record

R = TypeVar("R", bound=Record)
DATA = "data"
"""The subfolder of a board with answers and verdicts in the benchmarks' public formats."""


class _BoardFile(Record):
    board: str
    generated: str
    rows: tuple[BoardRow, ...]
    figures: tuple[Figure, ...] = ()
    training_seeds: tuple[SeedGroup, ...] = ()
    comparisons: dict[str, tuple[Comparison, ...]] = Field(default_factory=dict)


def read_board(path: Path) -> Board:
    """Read a board from its folder, its `board.json` or its `entries` folder. Rows keep the board's order; those of a
    bare `entries` folder come with `base` first, then by id. A `board.json` without a folder of entries beside it gives
    rows without outcomes. Raises DataError for a path that is missing, corrupt or not a board."""
    if not path.exists():
        raise DataError(f"{path} does not exist; expected a board's folder, its board.json or its entries folder")
    if path.is_dir() and (path / "board.json").is_file():
        path = path / "board.json"
    if path.is_file():
        return _read_board_file(path)
    folder = path / "entries" if (path / "entries").is_dir() else path
    entries = [_read_entry(file) for file in sorted(folder.glob("*.json"))]
    if not entries:
        raise DataError(f"{path} is not a board; expected board.json or entries/*.json in it")
    entries.sort(key=lambda entry: (entry.method != "base", entry.id))
    return Board(name=folder.absolute().parent.name, generated=None, entries=tuple(entries))


def _read_board_file(path: Path) -> Board:
    file = _parse(path, _BoardFile, "a board.json with board, generated and rows")
    folder = path.parent / "entries"
    entries = []
    for row in file.rows:
        if not folder.is_dir():
            entries.append(Entry(**dict(row), figures=file.figures))
            continue
        entry = _read_entry(folder / entry_file(row.id))
        if entry.id != row.id:
            raise DataError(f"{folder / entry_file(row.id)} holds row {entry.id!r}, expected {row.id!r}; restore it")
        entries.append(entry)
    return Board(name=file.board, generated=file.generated, entries=tuple(entries), comparisons=file.comparisons)


def _read_entry(path: Path) -> Entry:
    return _parse(path, Entry, "an entry with id, method, metrics, provenance and outcomes")


def _parse(path: Path, kind: type[R], expected: str) -> R:
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise DataError(f"{path}: {where}: {first['msg']}; expected {expected}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} can't be read ({error}); expected {expected}") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not allowed in a board")


def choose_row(board: Path | Board, row_id: str | None, option: str = "--row") -> Entry:
    """The row with this id; without an id, the only row that is not the untrained base. `option`: how messages call
    the id. Raises DataError."""
    name, opened = (board.name, board) if isinstance(board, Board) else (board, read_board(board))
    entries = {entry.id: entry for entry in opened.entries}
    if row_id is not None:
        if row_id not in entries:
            raise DataError(f"{name}: no row {quoted(row_id)}; {nearest(row_id, entries)}")
        return entries[row_id]
    trained = [entry for entry in entries.values() if entry.method != "base"] or list(entries.values())
    if len(trained) != 1:
        raise DataError(f"{name} has {len(trained)} rows; name one with {option}: {', '.join(e.id for e in trained)}")
    return trained[0]


def entry_file(row_id: str) -> str:
    """The name of a row's file in `entries/`."""
    return f"{file_name(row_id)}.json"


def stage_keys(board: Path) -> set[str]:
    """Keys of the stages that a board's rows depend on. Raises DataError for a path that is not a board."""
    rows = [entry.provenance for entry in read_board(board).entries]
    return {key for row in rows for key in (*row.keys.values(), *row.references.values())}
