"""The store looked after: what is in it, what is broken, what no board needs any more."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from harness.errors import DataError
from harness.leaderboard import read_board
from harness.store import RECORD, ArtifactRecord, Store, stage_key

LEAVES = ("report", "dataset")
"""Stages that no row rests on: they are kept for as long as all that they were made from is."""
LARGEST_RECORD = 50_000_000
"""Bytes that an `artifact.json` or a journal's line may have."""


class Fault(NamedTuple):
    """Something broken: where, what, and the artifact's folder if it is one's."""

    path: Path
    text: str
    artifact: Path | None = None


class Kept(NamedTuple):
    """An artifact as `harness cache ls` shows it: bytes, when it was made (seconds since 1970), the stages that were
    made from it, and the boards that name it."""

    key: str
    stage: str
    bytes: int
    made: float
    counts: dict[str, int]
    used_by: tuple[str, ...]
    boards: tuple[str, ...]


def artifacts(store: Store) -> list[Path]:
    """Folders of artifacts, leftovers of dead runs not among them."""
    return sorted(path for path in store.artifacts.iterdir() if not path.name.startswith("."))


def leftovers(store: Store) -> list[Path]:
    """What dead runs left, and artifacts that were put aside because they were broken."""
    partial = store.root / "partial"
    return sorted([*store.artifacts.glob(".*"), *(partial.iterdir() if partial.is_dir() else [])])


def board_keys(boards: Iterable[Path]) -> dict[str, set[str]]:
    """Keys of the stages that each board's rows rest on, by the board's name. Raises DataError for what is no board."""
    found: dict[str, set[str]] = {}
    for board in boards:
        for entry in read_board(board).entries:
            for section in ("keys", "references"):
                found.setdefault(board.name, set()).update(map(str, entry.section(section).values()))
    return found


def listed(store: Store, boards: Sequence[Path]) -> list[Kept]:
    """Every readable artifact, with who needs it."""
    records = _records(store)
    users: dict[str, list[str]] = {}
    for record in records.values():
        for needed in record.inputs.values():
            users.setdefault(needed, []).append(record.stage)
    named = board_keys(boards)
    return [
        Kept(
            key,
            record.stage,
            sum(file.bytes for file in record.files.values()),
            (store.artifacts / key / RECORD).stat().st_mtime,
            {k: v for k, v in record.report.items() if isinstance(v, int) and not isinstance(v, bool) and v},
            tuple(sorted(users.get(key, []))),
            tuple(name for name, keys in named.items() if key in keys),
        )
        for key, record in records.items()
    ]


def _records(store: Store) -> dict[str, ArtifactRecord]:
    found = {}
    for folder in artifacts(store):
        record = read_record(folder)
        if isinstance(record, ArtifactRecord):
            found[folder.name] = record
    return found


def read_record(folder: Path) -> ArtifactRecord | str:
    """An artifact's record, or what is wrong with it."""
    path = folder / RECORD
    try:
        if path.is_symlink() or not path.is_file():
            return "is missing: the artifact was never finished"
        if path.stat().st_size > LARGEST_RECORD:
            return "is too large to be a record"
        return ArtifactRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        return f"is no record ({'.'.join(map(str, first['loc'])) or 'the whole file'}: {first['msg']})"
    except (OSError, ValueError, RecursionError) as error:
        return f"can't be read ({getattr(error, 'strerror', None) or error})"


def faults(store: Store) -> Iterator[Fault]:
    """Everything in the store that is not as it was made. Journals' torn last lines are none: they are made again."""
    for folder in artifacts(store):
        for name, text in artifact_faults(folder):
            yield Fault(folder / name, text, folder)
    for path in sorted(store.journals.rglob("*.jsonl")):
        yield from _journal_faults(path)


def artifact_faults(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, what is wrong) of one artifact."""
    if folder.is_symlink() or not folder.is_dir():
        yield "", "is no folder of an artifact"
        return
    record = read_record(folder)
    if isinstance(record, str):
        yield RECORD, record
        return
    if record.key != folder.name:
        yield RECORD, f"is that of artifact {record.key[:12]}"
    if not record.is_whole:
        yield RECORD, "has other content than when it was made"
    try:
        if stage_key(record.stage, record.version, record.params, record.inputs) != record.key:
            yield RECORD, "does not fit its key: its stage, version, params or inputs were changed"
    except ValueError:
        yield RECORD, "does not fit its key: its params are not plain"
    for name, file in record.files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or path.is_symlink():
            yield name, "lies outside of the artifact"
        elif not path.is_file():
            yield name, "is missing"
        elif text := _file_fault(path, file.bytes, file.sha256):
            yield name, text
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() or p.is_symlink()}
    for name in sorted(there - record.files.keys() - {RECORD}):
        yield name, "does not belong to the artifact"


def _file_fault(path: Path, size: int, digest: str) -> str | None:
    try:
        if path.stat().st_size != size:
            return f"has {path.stat().st_size:,} bytes instead of {size:,}"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return "has other content than when it was made"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return None


def _journal_faults(path: Path) -> Iterator[Fault]:
    seen: dict[str, int] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return  # torn: the record is had again
                key = _journal_key(line)
                if key is None:
                    yield Fault(path, f"line {number} is no journal row; delete the line to have it made again")
                elif key in seen:
                    yield Fault(path, f"line {number} has the key of line {seen[key]}; delete one of them")
                else:
                    seen[key] = number
    except OSError as error:
        yield Fault(path, f"can't be read ({error.strerror}); mend its rights")


def _journal_key(line: bytes) -> str | None:
    try:
        row = json.loads(line) if len(line) <= LARGEST_RECORD else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("key"), str):
        return None
    return row["key"] if any(isinstance(v, dict) for k, v in row.items() if k != "key") else None


class Collected(NamedTuple):
    """What `gc` removes: folders, and their bytes; and how many artifacts stay."""

    folders: list[Path]
    bytes: int
    kept: int


def unneeded(store: Store, keep: Sequence[Path], partial: bool = False) -> Collected:
    """What no board in `keep` needs: artifacts that none of its rows rests on, however far back, and what dead runs
    left; with `partial` also what stopped trainings would go on from. Raises DataError for a board that can't be read,
    for one of which the store has nothing, and while a run uses the store."""
    named = board_keys(keep)
    records = _records(store)
    for board in keep:  # one by one: folders may have one name, and a board without keys must not mean "keep nothing"
        if not board_keys([board])[board.name] & records.keys():
            raise DataError(f"board {board}: this store has none of its artifacts; expected the store that made it")
    if busy := _in_use(store):
        raise DataError(f"{store.root}: a run is using it ({busy}); collect when it has ended")
    wanted = {key for keys in named.values() for key in keys}
    waiting = list(wanted)
    while waiting:
        record = records.get(waiting.pop())
        for needed in record.inputs.values() if record else ():
            if needed not in wanted:
                wanted.add(needed)
                waiting.append(needed)
    for leaf in LEAVES:
        wanted |= {k for k, r in records.items() if r.stage == leaf and wanted.issuperset(r.inputs.values())}
    left = [path for path in leftovers(store) if partial or path.parent == store.artifacts]
    folders = [folder for folder in artifacts(store) if folder.name not in wanted] + left
    return Collected(folders, sum(map(size, folders)), len(wanted & records.keys()))


def _in_use(store: Store) -> str | None:
    """The name of a lock that somebody holds; None where nobody does."""
    for path in sorted((store.root / "locks").glob("*.lease")):
        lease = store.lock(path.stem)
        if not lease.try_acquire():
            return path.stem[:12]
        lease.release()
    return None


def size(path: Path) -> int:
    """Bytes of a file or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(p.stat().st_size for p in files if p.is_file() and not p.is_symlink())


def remove(store: Store, folders: Iterable[Path]) -> list[Path]:
    """Remove folders of the store, but for those that a live run is making; returns those that are gone."""
    gone = []
    for folder in folders:
        key = folder.name.removeprefix(".building-").removeprefix(".corrupt-").split("-")[0]
        lease = store.lock(key)
        if not lease.try_acquire():
            continue
        try:
            if folder.is_symlink() or folder.is_file():
                folder.unlink()
            else:
                shutil.rmtree(folder)
            gone.append(folder)
        finally:
            lease.release()
    return gone
