"""Baselines: a board's row in one file, with who promoted it, when, and at which commit."""

import getpass
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from harness.boards.entry import Entry
from harness.boards.read import choose_row, read_board
from harness.engine.provenance import commit_of
from harness.errors import DataError, StoreError
from harness.report.write import publish
from harness.types import Record


class Baseline(Record):
    """The file that `harness baseline promote` writes. `by`: the user's name on that machine, or $GITHUB_ACTOR. `at`:
    UTC, ISO 8601. `commit`: of the repository that holds the board; None outside of one. `before`: the baseline that it
    replaced, without that one's entry."""

    board: str
    by: str
    at: str
    commit: str | None
    before: dict[str, str | None] | None = None
    entry: Entry


def promote(board: Path, row: str | None, out: Path | None) -> Path:
    """Make a board's row the baseline and return the file's path: `out`, by default `baseline.json` in the board's
    folder. Raises DataError for a row that does not exist, or that lacks verdicts, so that no gate could use it."""
    entry = choose_row(board, row)
    folder = board if board.is_dir() else board.parent
    missing = {name: sum(v is None for v in values.values()) for name, values in entry.outcomes.items()}
    if any(missing.values()):
        counts = ", ".join(f"{count} of {name}" for name, count in missing.items() if count)
        raise DataError(f"row '{entry.id}' lacks verdicts ({counts}): no gate could compare with it; run it again")
    path = out or folder / "baseline.json"
    replaced = _replaced(path)
    baseline = Baseline(
        board=folder.absolute().name,
        by=os.environ.get("GITHUB_ACTOR") or getpass.getuser(),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit_of(folder),
        before=replaced,
        entry=entry,
    )
    text = json.dumps(baseline.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        publish({path: text + "\n"})
    except OSError as error:
        raise StoreError(f"{path} can't be written ({error.strerror or error}); the old baseline is kept") from None
    return path


def _replaced(path: Path) -> dict[str, str | None] | None:
    """Who promoted which row at this path before; None where there is no file."""
    if not path.exists():
        return None
    data = _json(path)
    if not isinstance(data, dict) or "entry" not in data:
        raise DataError(f"{path} is not a baseline, so it is not replaced; name another file with -o")
    old = _parsed(path, data, None)
    return {"row": old.entry.id, "by": old.by, "at": old.at, "commit": old.commit}


def read_baseline(path: Path, row: str | None = None, like: str | None = None) -> "Baseline | Entry":
    """A baseline file, or a row of a board: `row`, else `like` where the board has it, else its only trained row.
    Raises DataError."""
    if path.is_file():
        data = _json(path)
        if isinstance(data, dict) and "entry" in data:
            return _parsed(path, data, row)
    if row is None and like in {entry.id for entry in read_board(path).entries}:
        row = like
    return choose_row(path, row, "--baseline-row")


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} can't be read ({error}); expected a baseline or a board") from None


def _parsed(path: Path, data: object, row: str | None) -> Baseline:
    try:
        baseline = Baseline.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: {where}: {first['msg']}; expected what `harness baseline promote` writes") from None
    if row is not None and baseline.entry.id != row:
        raise DataError(
            f"{path} is the baseline of row '{baseline.entry.id}', expected '{row}'; leave out the row's name"
        )
    return baseline


def baseline_entry(path: Path, row: str | None = None, like: str | None = None) -> Entry:
    """The row that a gate compares with (see `read_baseline`)."""
    baseline = read_baseline(path, row, like)
    return baseline.entry if isinstance(baseline, Baseline) else baseline
