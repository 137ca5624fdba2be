"""Several boards joined into one."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from harness.boards.entry import Entry
from harness.boards.read import DATA, read_board
from harness.errors import DataError
from harness.report.write import write_board


def merge_boards(boards: Sequence[Path], out: Path) -> Path:
    """Write a board of all rows of several boards, with their answers and verdicts, and return its `board.json`. A row
    that is the same on two boards is taken once. Raises DataError where one id stands for different rows."""
    rows: dict[str, tuple[Entry, Path]] = {}
    for path in boards:
        for entry in read_board(path).entries:
            first, source = rows.setdefault(entry.id, (entry, path))
            if first != entry:
                raise DataError(f"row '{entry.id}' differs between {source} and {path}; rename one of them")
    board_json = write_board(out, out.absolute().name, [entry for entry, _ in rows.values()])
    for path in boards:
        _merge_data(path if path.is_dir() else path.parent, out)
    return board_json


def _merge_data(board: Path, out: Path) -> None:
    """Copy a board's data files; to a JSONL file that exists already, only the lines that it lacks are added."""
    for file in sorted((board / DATA).rglob("*")):
        target = out / file.relative_to(board)
        if file.is_dir() or file == target:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copyfile(file, target)
        elif file.suffix == ".jsonl":
            present = set(target.read_text(encoding="utf-8").split("\n"))
            new = [line for line in file.read_text(encoding="utf-8").split("\n") if line and line not in present]
            with target.open("a", encoding="utf-8") as lines:
                lines.writelines(f"{line}\n" for line in new)
