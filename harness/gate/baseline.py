"""Baselines: a board's row in one file, with who promoted it, when, and at which commit."""

import getpass
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from harness.boards.consistency import contradiction
from harness.boards.entry import Entry
from harness.boards.read import choose_row, parse_record, read_board
from harness.boards.writing import write_output
from harness.engine.provenance import commit_of
from harness.errors import DataError, StoreError, quoted
from harness.outside import LARGEST_TEXT, parse_json, read_text, reason_of
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
    if not entry.outcomes:
        raise DataError(f"row {quoted(entry.id)} has no outcomes by prompt: no gate could compare with it")
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
        write_output(path, text + "\n")
    except OSError as error:
        raise StoreError(f"{path} can't be written ({error.strerror or error}); the old baseline is kept") from None
    return path


def _replaced(path: Path) -> dict[str, str | None] | None:
    """Who promoted which row at this path before; None where there is no file."""
    if not path.exists() and not path.is_symlink():
        return None
    text = _baseline_text(path)
    if text is None:
        raise DataError(f"{path} is not a baseline, so it is not replaced; name another file with -o")
    old = _parsed(path, text, None)
    return {"row": old.entry.id, "by": old.by, "at": old.at, "commit": old.commit}


def read_baseline(path: Path, row: str | None = None, like: str | None = None) -> "Baseline | Entry":
    """A baseline file, or a row of a board: `row`, else `like` where the board has it, else its only trained row.
    Raises DataError."""
    if path.exists() and not path.is_dir() and (text := _baseline_text(path)) is not None:
        return _parsed(path, text, row)
    if row is None and like in {entry.id for entry in read_board(path).entries}:
        row = like
    return choose_row(path, row, "--baseline-row")


def _baseline_text(path: Path) -> str | None:
    """The text of a baseline; None for a file of another kind, such as a board. Raises DataError for a file that can't
    be read."""
    try:
        text = read_text(path.resolve(), LARGEST_TEXT)
        data = parse_json(text)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read ({reason_of(error)}); expected a baseline or a board") from None
    return text if isinstance(data, dict) and "entry" in data else None


def _parsed(path: Path, text: str, row: str | None) -> Baseline:
    baseline = parse_record(text, Baseline, str(path), "what `harness baseline promote` writes")
    if problem := contradiction(baseline.entry):
        raise DataError(f"{path}: {problem}; restore the file, or promote the row again")
    if row is not None and baseline.entry.id != row:
        raise DataError(
            f"{path} is the baseline of row {quoted(baseline.entry.id)}, expected {quoted(row)}; leave out the row's "
            "name"
        )
    return baseline


def baseline_entry(path: Path, row: str | None = None, like: str | None = None) -> Entry:
    """The row that a gate compares with (see `read_baseline`)."""
    baseline = read_baseline(path, row, like)
    return baseline.entry if isinstance(baseline, Baseline) else baseline
