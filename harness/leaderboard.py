"""Leaderboards on disk: one entry file a row, and `board.json`, `board.md` and `board.csv` drawn from them.

<board>/entries/<id>.json   a row with its outcomes prompt by prompt: the truth, and all that a merge needs
<board>/board.json          which rows, in which order, with metrics and provenance; figures over training seeds
"""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import Field, ValidationError

from harness import datafiles
from harness.board_pairs import Compared
from harness.board_rows import Board, Entry, Row
from harness.board_seeds import SeedGroup, all_seed_groups
from harness.board_terminal import terminal_table
from harness.board_text import csv_text, markdown
from harness.errors import DataError, StoreError
from harness.paired import Comparison
from harness.types import Record

__all__ = ["Board", "Entry", "read_board", "terminal_table", "write_board"]

R = TypeVar("R", bound=Record)


class _BoardFile(Record):
    board: str
    generated: str
    rows: tuple[Row, ...]
    training_seeds: tuple[SeedGroup, ...] = ()
    comparisons: dict[str, tuple[Comparison, ...]] = Field(default_factory=dict)


def write_board(folder: Path, name: str, entries: Sequence[Entry]) -> Path:
    """Write the board into its folder and return the path of `board.json`. Entry files of other rows are removed.

    All files are written beside their places and moved there once all are whole, `board.json` last: a write that fails
    leaves the board that was there. What did not change keeps its bytes, the time stamp with them.

    Raises DataError for a row given twice or a figure that is not finite, StoreError when the folder can't be written.
    """
    ids = [entry.id for entry in entries]
    if repeated := sorted({i for i in ids if ids.count(i) > 1}):
        raise DataError(
            f"board {name}: row ids must differ, {', '.join(map(repr, repeated))} is there twice; rename one"
        )
    files = {folder / "entries" / _file_name(entry.id): _entry_json(entry) for entry in entries}
    stale = set((folder / "entries").glob("*.json")) - set(files)
    changed = bool(stale) or any(_content(path) != text for path, text in files.items())
    compared = Compared(entries)
    pairs = compared.json()
    generated = _stamp(folder / "board.json", name, entries, pairs, changed)
    board = Board(name=name, generated=generated, entries=tuple(entries), comparisons=compared.by_metric)
    files[folder / "board.md"] = markdown(board, compared)
    files[folder / "board.csv"] = csv_text(board)
    files[folder / "comparisons.csv"] = compared.csv()
    files[folder / "board.json"] = _board_json(name, generated, entries, pairs)
    try:
        (folder / "entries").mkdir(parents=True, exist_ok=True)
        _publish(files)
        for path in stale:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"board {folder} can't be written ({error.strerror or error}); the old one is kept: check space and rights"
        ) from error
    return folder / "board.json"


def read_board(path: Path) -> Board:
    """A board from its folder, its `board.json` or its `entries` folder. Rows come in the board's order; those of a
    bare `entries` folder with `base` first and then by id. A `board.json` without a folder of entries beside it gives
    rows without outcomes. Raises DataError for what is missing, corrupt or not a board."""
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
            entries.append(Entry(**dict(row)))
            continue
        entry = _read_entry(folder / _file_name(row.id))
        if entry.id != row.id:
            raise DataError(f"{folder / _file_name(row.id)} holds row {entry.id!r}, expected {row.id!r}; restore it")
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
    raise ValueError(f"{constant} is not a number that a board may hold")


def _file_name(row_id: str) -> str:
    return f"{datafiles.file_name(row_id)}.json"


def _entry_json(entry: Entry) -> str:
    if wrong := _not_finite(entry.model_dump()):
        raise DataError(f"row {entry.id!r}: {wrong}; a figure that could not be had is None and counted in n_invalid")
    return _pretty(entry.model_dump(mode="json"))


def _not_finite(value: Any, where: str = "") -> str | None:
    """The first infinity or NaN in nested data, as `metrics.mt_bench.score.value is nan`."""
    if isinstance(value, float) and not (float("-inf") < value < float("inf")):
        return f"{where} is {value}"
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(key), item) for key, item in enumerate(value)]
    else:
        return None
    return next((w for key, item in items if (w := _not_finite(item, f"{where}.{key}" if where else key))), None)


def _board_json(name: str, generated: str, entries: Sequence[Entry], pairs: Mapping[str, Any]) -> str:
    rows = [entry.model_dump(mode="json", exclude={"outcomes", "resamples"}) for entry in entries]
    groups = [group.model_dump(mode="json") for group in all_seed_groups(entries)]
    data = {"board": name, "generated": generated, "rows": rows}
    data |= {"training_seeds": groups} if groups else {}
    return _pretty(data | ({"comparisons": pairs} if pairs else {}))


def _pretty(data: Any) -> str:
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _stamp(path: Path, name: str, entries: Sequence[Entry], pairs: Mapping[str, Any], changed: bool) -> str:
    """The old time stamp if nothing on the board changed since, else now."""
    old = _content(path)
    if old is not None and not changed:
        try:
            generated = json.loads(old)["generated"]
            if isinstance(generated, str) and _board_json(name, generated, entries, pairs) == old:
                return generated
        except (ValueError, TypeError, KeyError):
            return _now()  # not a board.json that we wrote: it is replaced
    return _now()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _content(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def _publish(files: Mapping[Path, str]) -> None:
    """Put every file whose content differs in its place, after all of them have been written beside it."""
    staged: list[tuple[Path, Path]] = []
    try:
        for path, text in files.items():
            if _content(path) == text:
                continue
            scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            staged.append((scratch, path))
            with scratch.open("wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        for scratch, path in staged:
            os.replace(scratch, path)
    finally:
        for scratch, _ in staged:
            scratch.unlink(missing_ok=True)
