"""Several boards joined into one."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.boards.board import Board
from harness.boards.entry import Entry
from harness.boards.folder import DRAWN, benchmarks_of, check_replaceable, data_files, write_owned
from harness.boards.read import DATA, entry_file, read_board
from harness.boards.versions.history import keep_board
from harness.boards.versions.renames import parse_renames, renamed_data, renamed_row
from harness.boards.versions.substance import differing
from harness.boards.writing import own_file, writing
from harness.errors import DataError, StoreError, quoted
from harness.files import file_name
from harness.outside import open_file
from harness.report.write import write_board

LARGEST = 512 << 20
"""Bytes of all data files of one board."""


class _Source(NamedTuple):
    """A board to merge: its path, what was read there, and its rows under their new ids."""

    path: Path
    board: Board
    names: Mapping[str, str]
    entries: tuple[Entry, ...]


def merge_boards(boards: Sequence[Path], out: Path, *, replace: bool = False, rename: Sequence[str] = ()) -> Path:
    """Write a board of all rows of several boards, with their answers and verdicts, and return its `board.json`. A row
    that is the same on two boards (see `harness.boards.versions.substance`) is taken once, from the first of them; of a
    JSONL file of several boards, each line. `rename`: `OLD=NEW`, for the last board that has such a row, or
    `BOARD:OLD=NEW` for one board, named by its path or its number. A board that was in `out` is kept in its history.

    Raises DataError where one id stands for different rows, or one name for different files. Unless `replace`, raises
    StoreError for an `out` with rows that none of the boards has, or with files of others."""
    sources = _sources(boards, rename)
    merged, repeated = _merged_rows(sources)
    files = _merged_data(sources, repeated)
    own_file(out, "entries/x")
    with writing(out):
        if not replace:
            _check(out, merged, files)
        keep_board(out, merged)
        board_json = write_board(out, out.absolute().name, merged)
        try:
            # The page was drawn from the old rows.
            write_owned(out, files, among=lambda name: name.startswith(f"{DATA}/") or name == "index.html")
        except OSError as error:
            raise StoreError(f"{out / DATA} can't be written ({error.strerror or error}); check the space") from None
    return board_json


def _sources(paths: Sequence[Path], rename: Sequence[str]) -> list[_Source]:
    opened = [read_board(path) for path in paths]
    names = parse_renames(rename, [str(path) for path in paths], opened)
    sources = []
    for i, (path, board) in enumerate(zip(paths, opened, strict=True)):
        others = [entry for j, other in enumerate(opened) if j != i for entry in other.entries]
        entries = tuple(renamed_row(entry, names[i], others) for entry in board.entries)
        sources.append(_Source(path, board, names[i], entries))
    return sources


def _merged_rows(sources: Sequence[_Source]) -> tuple[list[Entry], list[set[str]]]:
    """(the rows of the new board, for each board the ids of the rows that an earlier one has given). Raises
    DataError."""
    rows: dict[str, tuple[Entry, Path]] = {}
    repeated: list[set[str]] = []
    for source in sources:
        repeated.append(set())
        for entry in source.entries:
            first, path = rows.setdefault(entry.id, (entry, source.path))
            if first is entry:
                continue
            if parts := differing(first, entry):
                raise DataError(
                    f"row {quoted(entry.id)} differs between {path} and {source.path} in {', '.join(parts)}; keep both "
                    f"with --rename, such as --rename {quoted(f'{entry.id}={entry.id}-2')}"
                )
            repeated[-1].add(entry.id)
    return [entry for entry, _ in rows.values()], repeated


def _merged_data(sources: Sequence[_Source], repeated: Sequence[Collection[str]]) -> dict[str, bytes]:
    """The data files of the new board. Of a row that several boards have, the first one's files count. Raises
    DataError."""
    data: dict[str, tuple[bytes, Path]] = {}
    for source, same_rows in zip(sources, repeated, strict=True):
        path, same_names = source.path, {file_name(row) for row in same_rows}
        folder = path if path.is_dir() else path.parent
        for old_name, old_content in _data_files(folder, benchmarks_of(source.board.entries)):
            name, content = renamed_data(old_name, old_content, source.names, f"{path}: {old_name}")
            before, first = data.setdefault(name, (content, path))
            if before == content or same_names & {*name.split("/")[2:], Path(name).stem}:
                continue
            if not name.endswith(".jsonl"):
                raise DataError(f"{name} differs between {first} and {path}; remove it from one of them")
            data[name] = _union(before, content), first
    return {name: content for name, (content, _) in data.items()}


def _check(out: Path, entries: Sequence[Entry], data: Iterable[str]) -> None:
    drawn = [name for name in DRAWN if name != "index.html"]
    rows = {(entry.id, (entry.provenance.recipe or {}).get("name")) for entry in entries}
    check_replaceable(out, [*drawn, *(f"entries/{entry_file(entry.id)}" for entry in entries), *data], rows)


def _data_files(board: Path, benchmarks: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Name in the board's folder and content of each data file of these benchmarks. Raises DataError for a link that
    leads out of the folder, a link to a folder, whatever is no regular file, and more than LARGEST bytes."""
    left = LARGEST
    real = board.resolve()  # the user names the folder, and may name a link to it
    for path in data_files(real, benchmarks):
        try:
            with open_file(path, inside=real) as file:
                size = os.fstat(file.fileno()).st_size
                content = file.read(left) if size <= left else b""
        except OSError as error:
            raise DataError(f"{path} can't be copied: {error.strerror or error}") from None
        if size > left:
            raise DataError(f"{board / DATA} has more than {LARGEST:,} bytes; expected fewer")
        left -= size
        if not path.name.startswith("."):
            yield path.relative_to(real).as_posix(), content


def _union(first: bytes, second: bytes) -> bytes:
    """The lines of two JSONL files, each once."""
    lines = dict.fromkeys(line for content in (first, second) for line in content.split(b"\n") if line)
    return b"".join(line + b"\n" for line in lines)
