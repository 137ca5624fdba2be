"""Baseline files: a board's row, the anchor that it may not drift from, and the history of both."""

import json
from pathlib import Path

from pydantic import Field

from harness.boards.catalog import Figures
from harness.boards.consistency import contradiction
from harness.boards.entry import Entry
from harness.boards.read import choose_row, parse_record, read_board
from harness.boards.writing import write_output
from harness.errors import DataError, StoreError, quoted
from harness.outside import LARGEST_TEXT, parse_json, read_text, reason_of
from harness.types import Record

SCHEMA = 2
"""The version of the files that are written: 2 has intervals in its history."""


class Promotion(Record):
    """One line of a baseline's history. `by`: the user's name on that machine, or $GITHUB_ACTOR. `at`: UTC, ISO 8601.
    `commit`: of the repository that holds the board; None outside of one. `figures`: the row's values by which rows are
    compared; empty where they were not recorded. `intervals`: their 95 % CIs; not in files of earlier versions.
    `anchor`: it became the anchor. `allowed`: what was found against it and allowed explicitly."""

    row: str
    by: str
    at: str
    commit: str | None
    figures: dict[str, float] = Field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    anchor: bool = False
    allowed: tuple[str, ...] = ()


class Baseline(Record):
    """The file that `harness baseline promote` writes. `by`, `at`, `commit`: as in a promotion. `anchor`: the first row
    that was promoted, or the one that was named a new anchor; None in files of earlier versions: the entry itself.
    `history`: all promotions, oldest first, this one included. `schema_version`: of the file; 1 where it has none."""

    schema_version: int = Field(1, ge=1)
    board: str
    by: str
    at: str
    commit: str | None
    entry: Entry
    anchor: Entry | None = None
    history: tuple[Promotion, ...] = ()
    before: dict[str, str | None] | None = Field(None, exclude=True)
    """In files of earlier versions: the one promotion before this one, without figures."""

    @property
    def other_anchor(self) -> Entry | None:
        """The anchor, where it is not the entry itself."""
        return None if self.anchor is None or self.anchor == self.entry else self.anchor

    @property
    def promotions(self) -> tuple[Promotion, ...]:
        """The history, also of a file of an earlier version."""
        if self.history:
            return self.history
        old = self.before
        earlier = (
            (Promotion(row=old.get("row") or "", by=old.get("by") or "", at=old.get("at") or "", commit=old["commit"]),)
            if old and old.keys() >= {"row", "by", "at", "commit"}
            else ()
        )
        current = Promotion(
            row=self.entry.id,
            by=self.by,
            at=self.at,
            commit=self.commit,
            figures=main_figures(self.entry),
            intervals=main_intervals(self.entry),
            anchor=True,
        )
        return (*earlier, current)


def main_figures(entry: Entry) -> dict[str, float]:
    """The values of a row by which rows are compared."""
    values = {figure.metric: entry.value(figure.metric) for figure in Figures([entry]).compared}
    return {metric: value for metric, value in values.items() if value is not None}


def main_intervals(entry: Entry) -> dict[str, tuple[float, float]]:
    """Their 95 % CIs; without those of too few prompts."""
    intervals = {metric: entry.metrics[metric].ci95 for metric in main_figures(entry)}
    return {metric: ci95 for metric, ci95 in intervals.items() if ci95 is not None}


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write the file. Raises StoreError; the file that was there is then kept."""
    text = json.dumps(baseline.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        write_output(path, text + "\n")
    except OSError as error:
        raise StoreError(f"{path} can't be written ({error.strerror or error}); the old baseline is kept") from None


def replaced_by(path: Path) -> Baseline | None:
    """The baseline at this path; None where there is no file. Raises DataError for a file of another kind."""
    if not path.exists() and not path.is_symlink():
        return None
    text = _baseline_text(path)
    if text is None:
        raise DataError(f"{path} is not a baseline, so it is not replaced; name another file with -o")
    return _parsed(path, text, None)


def open_baseline(path: Path) -> Baseline:
    """The baseline in a file. Raises DataError for any other file, and for a folder."""
    text = _baseline_text(path)
    if text is None:
        raise DataError(f"{path} is not a baseline; expected a file that `harness baseline promote` wrote")
    return _parsed(path, text, None)


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
    version = parse_json(text).get("schema_version", SCHEMA)
    if isinstance(version, int) and version > SCHEMA:
        raise DataError(
            f"{path} was written by a newer harness (schema_version {version}, expected at most {SCHEMA}): update "
            "this one"
        )
    baseline = parse_record(text, Baseline, str(path), "what `harness baseline promote` writes")
    for entry in (baseline.entry, *([baseline.anchor] if baseline.anchor else [])):
        if problem := contradiction(entry):
            raise DataError(f"{path}: {problem}; restore the file, or promote the row again")
    if row is not None and baseline.entry.id != row:
        raise DataError(
            f"{path} is the baseline of row {quoted(baseline.entry.id)}, expected {quoted(row)}; leave out the row's "
            "name"
        )
    return baseline
