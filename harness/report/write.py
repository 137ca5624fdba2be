"""Writes a board's files: one entry per row, and `board.json`, `board.md`, `board.csv` and `comparisons.csv`."""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.boards.entry import Board, Entry
from harness.boards.read import entry_file
from harness.boards.training_seeds import all_seed_groups
from harness.errors import DataError, StoreError
from harness.report.comparisons import Compared
from harness.report.csv_files import board_csv, comparisons_csv
from harness.report.markdown import board_markdown


def write_board(folder: Path, name: str, entries: Sequence[Entry]) -> Path:
    """Write the board into its folder and return the path of `board.json`. Entry files of other rows are removed.

    All files are first written under temporary names and then renamed, `board.json` last: a failed write leaves the old
    board in place. Unchanged files are not rewritten, and an unchanged board keeps its time stamp.

    Raises DataError for a repeated row id or a figure that is not finite, StoreError when the folder can't be written.
    """
    ids = [entry.id for entry in entries]
    if repeated := sorted({i for i in ids if ids.count(i) > 1}):
        raise DataError(f"board {name}: row ids must differ, {', '.join(map(repr, repeated))} is repeated; rename one")
    files = {folder / "entries" / entry_file(entry.id): _entry_json(entry) for entry in entries}
    stale = set((folder / "entries").glob("*.json")) - set(files)
    changed = bool(stale) or any(_content(path) != text for path, text in files.items())
    compared = Compared(entries)
    pairs = compared.json()
    generated = _stamp(folder / "board.json", name, entries, pairs, changed)
    board = Board(name=name, generated=generated, entries=tuple(entries), comparisons=compared.by_metric)
    files[folder / "board.md"] = board_markdown(board, compared)
    files[folder / "board.csv"] = board_csv(board)
    files[folder / "comparisons.csv"] = comparisons_csv(compared.by_metric)
    files[folder / "board.json"] = _board_json(name, generated, entries, pairs)
    try:
        (folder / "entries").mkdir(parents=True, exist_ok=True)
        publish(files)
        for path in stale:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"board {folder} can't be written ({error.strerror or error}); the old one is kept: check space and rights"
        ) from error
    return folder / "board.json"


def _entry_json(entry: Entry) -> str:
    if problem := _not_finite(entry.model_dump()):
        raise DataError(f"row {entry.id!r}: {problem}; a missing figure must be None and counted in n_invalid")
    plain = entry.model_dump(mode="json", exclude={"figures"})
    figures = [figure.model_dump(mode="json", exclude_defaults=True) for figure in entry.figures]
    return _pretty(plain | ({"figures": figures} if figures else {}))


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
    return next((text for key, item in items if (text := _not_finite(item, f"{where}.{key}" if where else key))), None)


def _board_json(name: str, generated: str, entries: Sequence[Entry], pairs: Mapping[str, Any]) -> str:
    rows = [entry.model_dump(mode="json", exclude={"outcomes", "resamples", "figures"}) for entry in entries]
    groups = [group.model_dump(mode="json") for group in all_seed_groups(entries)]
    figures = {figure.metric: figure for entry in entries for figure in entry.figures}
    data: dict[str, Any] = {"board": name, "generated": generated, "rows": rows}
    data |= {"figures": [f.model_dump(mode="json", exclude_defaults=True) for f in figures.values()]} if figures else {}
    data |= {"training_seeds": groups} if groups else {}
    return _pretty(data | ({"comparisons": pairs} if pairs else {}))


def _pretty(data: Any) -> str:
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _stamp(path: Path, name: str, entries: Sequence[Entry], pairs: Mapping[str, Any], changed: bool) -> str:
    """The old time stamp if nothing on the board has changed since, else the current time."""
    old = _content(path)
    if old is not None and not changed:
        try:
            generated = json.loads(old)["generated"]
            if isinstance(generated, str) and _board_json(name, generated, entries, pairs) == old:
                return generated
        except (ValueError, TypeError, KeyError):
            return _now()  # not a board.json of ours: it is replaced
    return _now()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _content(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def publish(files: Mapping[Path, str]) -> None:
    """Replace every file whose content differs, after all of them have been written under temporary names. Raises
    OSError."""
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
