"""Leaderboards on disk: one entry file per row, and `board.json`, `board.md` and `board.csv` written from them.

<board>/entries/<id>.json   a row with its outcomes per prompt: the source of truth, and all that a merge needs
<board>/board.json          the rows in order, with metrics and provenance; figures over training seeds
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError

from harness.boards.board import Board
from harness.boards.consistency import contradiction, unreasonable
from harness.boards.entry import BoardRow, Entry
from harness.boards.training_seeds import SeedGroup
from harness.errors import DataError, closest, nearest, quoted
from harness.figures import Figure
from harness.files import file_name
from harness.outside import LARGEST_TEXT, parse_json, read_text, reason_of
from harness.printable import printable
from harness.stats.paired import Comparison
from harness.types import Record

R = TypeVar("R", bound=Record)
DATA = "data"
"""The subfolder of a board with answers and verdicts in the benchmarks' public formats."""
RESTORE = "restore the file, or run the recipe again"


class _BoardFile(Record):
    board: str = Field(max_length=1000)
    generated: str = Field(max_length=100)
    rows: tuple[BoardRow, ...]
    figures: tuple[Figure, ...] = ()
    training_seeds: tuple[SeedGroup, ...] = ()
    """For other programs; the harness computes them from the rows."""
    comparisons: dict[str, tuple[Comparison, ...]] = Field(default_factory=dict)


def read_board(path: Path) -> Board:
    """Read a board from its folder, its `board.json` or its `entries` folder. Rows keep the board's order; those of a
    bare `entries` folder come with `base` first, then by id. A `board.json` without a folder of entries beside it gives
    rows without outcomes.

    Raises DataError for a path that is missing, corrupt or not a board, for a folder of boards, and for a row whose
    figures don't follow from its outcomes (see `harness.boards.consistency`)."""
    if not path.exists():
        expected = "expected a board's folder, its board.json or its entries folder"
        raise DataError(f"{path} does not exist; {_meant(path)}{expected}")
    if not path.is_dir():
        return _read_board_file(path.resolve(), path)
    if _is_there(path / "board.json"):
        return _read_board_file(path / "board.json", path / "board.json")
    folder = path / "entries" if _is_there(path / "entries") else path
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        raise DataError(_no_board(path))
    entries = [_read_entry(file, path) for file in files]
    _check_ids(entries, folder)
    entries.sort(key=lambda entry: (entry.method != "base", entry.id))
    return Board(name=folder.absolute().parent.name, generated=None, entries=tuple(entries))


def boards_in(folder: Path) -> list[Path]:
    """The boards in a folder of boards, by name; empty for a folder that is a board itself, or anything else."""
    if not folder.is_dir() or any(_is_there(folder / name) for name in ("board.json", "entries")):
        return []
    return sorted(
        child for child in folder.iterdir() if _is_there(child / "board.json") or (child / "entries").is_dir()
    )


def _meant(path: Path) -> str:
    """`did you mean 'x'? ` where a board beside what was named, or in `leaderboards`, has nearly the same name."""
    near = {board.name: board for folder in (Path("leaderboards"), path.parent) for board in boards_in(folder)}
    close = closest(path.name, near)
    return f"did you mean '{near[close]}'? " if close else ""


def _no_board(path: Path) -> str:
    if boards := boards_in(path):
        return f"{path} holds {len(boards):,} boards; name one of them: {', '.join(map(str, boards))}"
    return f"{path} is not a board; expected board.json or entries/*.json in it"


def _is_there(path: Path) -> bool:
    """Whether there is anything at a path, be it a link to nowhere."""
    return path.exists() or path.is_symlink()


def _read_board_file(path: Path, shown: Path) -> Board:
    file = read_record(path, _BoardFile, "a board.json with board, generated and rows", path.parent, shown)
    _check_ids(file.rows, shown)
    folder = path.parent / "entries"
    if not _is_there(folder):
        for row in file.rows:
            if problem := unreasonable(row):
                raise DataError(f"{shown}: row {quoted(row.id)}: {problem}; {RESTORE}")
        entries = [Entry(**dict(row), figures=file.figures) for row in file.rows]
        return Board(name=file.board, generated=file.generated, entries=tuple(entries))
    entries = []
    for row in file.rows:
        entry_path = folder / entry_file(row.id)
        entry = _read_entry(entry_path, path.parent)
        if entry.id != row.id:
            raise DataError(f"{entry_path} holds row {quoted(entry.id)}, expected {quoted(row.id)}; {RESTORE}")
        entries.append(entry)  # its figures, not board.json's: a write that was cut short leaves an older board.json
    return Board(name=file.board, generated=file.generated, entries=tuple(entries), listed=file.comparisons)


def repeated_ids(rows: Iterable[BoardRow]) -> list[str]:
    """The ids that several rows have, in order of first appearance."""
    return [row_id for row_id, count in Counter(row.id for row in rows).items() if count > 1]


def _check_ids(rows: Sequence[BoardRow], where: Path) -> None:
    if repeated := repeated_ids(rows):
        raise DataError(f"{where}: row {quoted(repeated[0])} is there twice; remove one of them")


def _read_entry(path: Path, board: Path) -> Entry:
    entry = read_record(path, Entry, "an entry with id, method, metrics, provenance and outcomes", board)
    if problem := contradiction(entry):
        raise DataError(f"{path}: {problem}; {RESTORE}")
    return entry


def read_record(path: Path, kind: type[R], expected: str, inside: Path, shown: Path | None = None) -> R:
    """A record from a JSON file that somebody else may have written, in or below the folder `inside`. `shown`: what
    messages call the file. Raises DataError, which says what was `expected`."""
    shown = shown or path
    try:
        text = read_text(path, LARGEST_TEXT, inside)
        parse_json(text)  # pydantic's parser takes repeated keys
    except (OSError, ValueError) as error:
        raise DataError(f"{shown} can't be read ({reason_of(error)}); expected {expected}") from None
    return parse_record(text, kind, f"{shown}", expected)


def parse_record(text: str, kind: type[R], where: str, expected: str) -> R:
    """A record from JSON text. Raises DataError with the place of what does not fit: `where` and the field."""
    try:
        return kind.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = printable(".".join(map(str, first["loc"])), 120) or "the whole file"
        raise DataError(f"{where}: {field}: {printable(first['msg'], 200)}; expected {expected}") from None


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
    return set(stage_ids(board))


def stage_ids(board: Path) -> dict[str, str]:
    """The ids of these stages, by key; a board names the answers that it compares with by their benchmark alone."""
    rows = [entry.provenance for entry in read_board(board).entries]
    others = {key: f"answers/{benchmark}" for row in rows for benchmark, key in row.references.items()}
    return others | {key: name for row in rows for name, key in row.keys.items()}
