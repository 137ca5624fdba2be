"""Writes a board's files: one entry per row, and `board.json`, `board.md`, `board.csv` and `comparisons.csv`."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.boards.board import Board
from harness.boards.entry import Entry
from harness.boards.folder import write_owned
from harness.boards.read import entry_file, repeated_ids
from harness.boards.training_seeds import all_seed_groups
from harness.boards.writing import content, own_file, writing
from harness.errors import DataError, StoreError
from harness.outside import LARGEST_TEXT, parse_json
from harness.report.comparisons import Compared
from harness.report.csv_files import board_csv, comparisons_csv
from harness.report.markdown import board_markdown


def write_board(folder: Path, name: str, entries: Sequence[Entry]) -> Path:
    """Write the board into its folder and return the path of `board.json`. Entry files of the old board's other rows
    are removed (see `harness.boards.folder`).

    All files are first written under temporary names and then renamed, `board.json` last: a failed write leaves the old
    board in place. Unchanged files are not rewritten, and an unchanged board keeps its time stamp.

    Raises DataError for a repeated row id or a figure that is not finite, StoreError when the folder can't be written.
    """
    if repeated := sorted(repeated_ids(entries)):
        raise DataError(f"board {name}: row ids must differ, {', '.join(map(repr, repeated))} is repeated; rename one")
    files = {f"entries/{entry_file(entry.id)}": _entry_json(entry) for entry in entries}
    compared = Compared(entries)
    try:
        with writing(folder):
            generated = _stamp(folder, files, lambda stamp: _board_json(name, stamp, entries, compared))
            board = Board(name=name, generated=generated, entries=tuple(entries))
            files["board.md"] = board_markdown(board, compared)
            files["board.csv"] = board_csv(board)
            files["comparisons.csv"] = comparisons_csv(compared.by_metric)
            files["board.json"] = _board_json(name, generated, entries, compared)
            write_owned(folder, files, among=lambda other: other.startswith("entries/"))
    except OSError as error:
        raise StoreError(
            f"board {folder} can't be written ({error.strerror or error}); the old one is kept: check space and rights"
        ) from error
    return folder / "board.json"


def _entry_json(entry: Entry) -> str:
    if problem := _not_finite(entry.model_dump()):
        raise DataError(f"row {entry.id!r}: {problem}; a missing figure must be None and counted in n_invalid")
    plain = entry.model_dump(mode="json", exclude={"figures"} if entry.strata else {"figures", "strata"})
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


def _board_json(name: str, generated: str, entries: Sequence[Entry], compared: Compared) -> str:
    rows = [entry.model_dump(mode="json", exclude={"outcomes", "resamples", "figures", "strata"}) for entry in entries]
    groups = [group.model_dump(mode="json") for group in all_seed_groups(entries)]
    figures = {figure.metric: figure for entry in entries for figure in entry.figures}
    data: dict[str, Any] = {"board": name, "generated": generated, "rows": rows}
    data |= {"figures": [f.model_dump(mode="json", exclude_defaults=True) for f in figures.values()]} if figures else {}
    data |= {"training_seeds": groups} if groups else {}
    pairs = compared.json()
    return _pretty(data | ({"comparisons": pairs} if pairs else {}))


def _pretty(data: Any) -> str:
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _stamp(folder: Path, entries: Mapping[str, str], board_json: Callable[[str], str]) -> str:
    """The old board's time stamp if nothing on the board has changed since, else the current time. `board_json`: the
    new `board.json` with a stamp."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    old = _text(folder, "board.json")
    if old is None or any(_text(folder, name) != text for name, text in entries.items()):
        return now
    try:
        generated = parse_json(old)["generated"]
    except (ValueError, TypeError, KeyError):
        return now  # not a board.json of ours
    return generated if isinstance(generated, str) and board_json(generated) == old else now


def _text(folder: Path, name: str) -> str | None:
    data = content(own_file(folder, name), LARGEST_TEXT)
    return None if data is None else data.decode(errors="replace")
