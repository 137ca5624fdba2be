"""Several boards joined into one."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from harness.boards.entry import Entry
from harness.boards.folder import DRAWN, benchmarks_of, check_replaceable, data_files, write_owned
from harness.boards.read import DATA, entry_file, read_board
from harness.boards.writing import own_file, writing
from harness.errors import DataError, StoreError, quoted
from harness.outside import open_file
from harness.report.write import write_board

LARGEST = 512 << 20
"""Bytes of all data files of one board."""


def merge_boards(boards: Sequence[Path], out: Path, *, replace: bool = False) -> Path:
    """Write a board of all rows of several boards, with their answers and verdicts, and return its `board.json`. A row
    that is the same on two boards is taken once; of a JSONL file of several boards, each line.

    Raises DataError where one id stands for different rows, or one name for different files. Unless `replace`, raises
    StoreError for an `out` with rows that none of the boards has, or with files of others."""
    rows: dict[str, tuple[Entry, Path]] = {}
    data: dict[str, tuple[bytes, Path]] = {}
    for path in boards:
        entries = read_board(path).entries
        for entry in entries:
            first, source = rows.setdefault(entry.id, (entry, path))
            if first != entry:
                raise DataError(f"row {quoted(entry.id)} differs between {source} and {path}; rename one of them")
        for name, content in _data_files(path if path.is_dir() else path.parent, benchmarks_of(entries)):
            before, source = data.setdefault(name, (content, path))
            if before != content:
                if not name.endswith(".jsonl"):
                    raise DataError(f"{name} differs between {source} and {path}; remove it from one of them")
                data[name] = _union(before, content), source
    merged, files = [entry for entry, _ in rows.values()], {name: content for name, (content, _) in data.items()}
    own_file(out, "entries/x")
    with writing(out):
        if not replace:
            _check(out, merged, files)
        board_json = write_board(out, out.absolute().name, merged)
        try:
            # The page was drawn from the old rows.
            write_owned(out, files, among=lambda name: name.startswith(f"{DATA}/") or name == "index.html")
        except OSError as error:
            raise StoreError(f"{out / DATA} can't be written ({error.strerror or error}); check the space") from None
    return board_json


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
