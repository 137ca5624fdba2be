"""Store maintenance: list its contents, find damage, remove what no board needs."""

import hashlib
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from harness.engine.journal_line import journal_damage
from harness.engine.runs import live_runs, stage_names
from harness.engine.store import RECORD, ArtifactRecord, Store, stage_key
from harness.errors import DataError
from harness.stage_kinds import STAGE_KINDS, about

LARGEST_RECORD = 50_000_000
"""Maximal size in bytes of an `artifact.json`."""
EMPTY_BEFORE = "trainer"
"""An empty folder in the artifacts of reward models that were trained by version 0.1."""


class Damage(NamedTuple):
    """Damage in the store: the file, a description, and the artifact's folder if the file belongs to one. `line`:
    whether it is a journal's line that `set_aside` moves away."""

    path: Path
    text: str
    artifact: Path | None = None
    line: bool = False


class ArtifactListing(NamedTuple):
    """An artifact in the output of `harness cache ls`; the field names are keys of its JSON. `names`: what runs and
    boards call it, as `ID of RECIPE`. `about`: what it was made with. `made`: creation time in seconds since 1970.
    `used_by`: stages computed from it. `boards`: those that depend on it."""

    key: str
    stage: str
    names: tuple[str, ...]
    about: str
    bytes: int
    made: float
    counts: dict[str, int]
    used_by: tuple[str, ...]
    boards: tuple[str, ...]


def artifacts(store: Store) -> list[Path]:
    """Folders of artifacts, without leftovers of dead runs."""
    return sorted(path for path in store.artifacts.iterdir() if not path.name.startswith("."))


def leftovers(store: Store) -> list[Path]:
    """Leftovers of dead runs, and broken artifacts that were moved aside."""
    partial = store.root / "partial"
    return sorted([*store.artifacts.glob(".*"), *(partial.iterdir() if partial.is_dir() else [])])


def list_artifacts(store: Store, boards: Mapping[Path, Mapping[str, str]]) -> list[ArtifactListing]:
    """Every readable artifact, with what uses it. `boards`: ids of the stages that each board depends on, by key."""
    records, named = _records(store), stage_names(store)
    for board, ids in boards.items():
        for key, name in ids.items():
            if key not in named:
                named[key] = [(name, board.name)]
    users: dict[str, list[str]] = {}
    for record in records.values():
        for key in record.inputs.values():
            users.setdefault(key, []).append(record.stage)
    return [
        ArtifactListing(
            key,
            record.stage,
            tuple(f"{name} of {recipe}" for name, recipe in named.get(key, ())),
            about(record.params),
            sum(file.bytes for file in record.files.values()),
            (store.artifacts / key / RECORD).stat().st_mtime,
            {k: v for k, v in record.report.items() if isinstance(v, int) and not isinstance(v, bool) and v},
            tuple(sorted(users.get(key, []))),
            tuple(board.name for board, keys in boards.items() if key in keys),
        )
        for key, record in records.items()
    ]


def _records(store: Store) -> dict[str, ArtifactRecord]:
    records = {}
    for folder in artifacts(store):
        record = read_record(folder)
        if isinstance(record, ArtifactRecord):
            records[folder.name] = record
    return records


def read_record(folder: Path) -> ArtifactRecord | str:
    """An artifact's record, or a description of what is wrong with it."""
    path = folder / RECORD
    try:
        if path.is_symlink() or not path.is_file():
            return "is missing: the artifact was never finished"
        if path.stat().st_size > LARGEST_RECORD:
            return "is too large to be a record"
        return ArtifactRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        return f"is not a valid record ({'.'.join(map(str, first['loc'])) or 'the whole file'}: {first['msg']})"
    except OSError as error:
        return f"can't be read ({error.strerror or error})"
    except (ValueError, RecursionError) as error:
        return f"can't be read ({error})"


def find_damage(store: Store) -> Iterator[Damage]:
    """All damage in the store: in artifacts, in journals, and what is neither a file nor a folder."""
    for folder in artifacts(store):
        for name, text in artifact_damage(folder):
            yield Damage(folder / name, text, folder)
    for path in sorted(store.journals.rglob("*")):
        if kind := _kind(path):
            yield Damage(path, f"is {kind}; expected a journal: remove it")
        elif path.is_dir() and not any(path.iterdir()):
            yield Damage(path, "is an empty folder; remove it")
        elif path.suffix == ".jsonl" and path.is_dir():
            yield Damage(path, "is a folder; expected a journal: remove it")
        elif path.suffix == ".jsonl":
            for text, line in journal_damage(path):
                yield Damage(path, text, line=line)
    for path in sorted([*(store.root / "locks").rglob("*"), *(store.root / "partial").rglob("*")]):
        if kind := _kind(path):
            yield Damage(path, f"is {kind}; expected a file: remove it")


def _kind(path: Path) -> str | None:
    """What a path is, if it is neither a file nor a folder; None also if it has just been removed."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "a device or socket"


def artifact_damage(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, description) of all damage in one artifact."""
    if folder.is_symlink() or not folder.is_dir():
        yield "", "is not an artifact's folder"
        return
    record = read_record(folder)
    if isinstance(record, str):
        yield RECORD, record
        return
    if record.key != folder.name:
        yield RECORD, f"belongs to artifact {record.key[:12]}"
    if not record.is_whole:
        yield RECORD, "has changed since it was written"
    try:
        if stage_key(record.stage, record.version, record.params, record.inputs) != record.key:
            yield RECORD, "does not match its key: its stage, version, params or inputs were changed"
    except ValueError:
        yield RECORD, "does not match its key: its params are not plain JSON"
    for name, file in record.files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or path.is_symlink():
            yield name, "lies outside of the artifact"
        elif not path.is_file():
            yield name, "is missing"
        elif text := _file_damage(path, file.bytes, file.sha256):
            yield name, text
    belonging = record.files.keys() | {RECORD}
    folders = {parent.as_posix() for name in belonging for parent in Path(name).parents}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name == EMPTY_BEFORE and _is_empty_folder(path):
            continue
        if name not in belonging and not (name in folders and path.is_dir()):
            yield name, f"does not belong to the artifact{f': it is {kind}' if (kind := _kind(path)) else ''}"


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _file_damage(path: Path, size: int, digest: str) -> str | None:
    try:
        if path.stat().st_size != size:
            return f"has {path.stat().st_size:,} bytes instead of {size:,}"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return "has changed since it was written"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return None


class Garbage(NamedTuple):
    """What `gc` removes: folders and their total bytes. `remaining`: number of artifacts that stay."""

    folders: list[Path]
    bytes: int
    remaining: int


def unneeded(store: Store, keep: Mapping[Path, set[str]], partial: bool = False) -> Garbage:
    """What no board in `keep` needs: artifacts that none of their rows depends on, directly or indirectly, and
    leftovers of dead runs; with `partial` also the state that interrupted trainings would resume from. `keep`: keys of
    the stages that each board depends on. What live runs need counts as needed. Raises DataError if the store has none
    of a board's artifacts, or while something else than a whole run uses the store. To be called, together with
    `remove`, within `harness.engine.runs.collecting`."""
    records = _records(store)
    for board, keys in keep.items():  # a board without keys must not mean "keep nothing"
        if not keys & records.keys():
            raise DataError(f"board {board}: this store has none of its artifacts; expected the store that produced it")
    live = live_runs(store)
    if not live and (busy := _in_use(store)):
        raise DataError(f"{store.root}: a run is using it ({busy}); try again when it has ended")
    needed = live.union(*keep.values())
    queue = list(needed)
    while queue:
        record = records.get(queue.pop())
        for key in record.inputs.values() if record else ():
            if key not in needed:
                needed.add(key)
                queue.append(key)
    # No row depends on a leaf stage: its artifact is kept as long as all of its inputs are.
    for leaf in (name for name, kind in STAGE_KINDS.items() if kind.leaf):
        needed |= {k for k, r in records.items() if r.stage == leaf and needed.issuperset(r.inputs.values())}
    remains = [path for path in leftovers(store) if partial or path.parent == store.artifacts]
    remains = [path for path in remains if _key(path) not in live]
    folders = [folder for folder in artifacts(store) if folder.name not in needed] + remains
    return Garbage(folders, sum(map(size, folders)), len(needed & records.keys()))


def _key(folder: Path) -> str:
    """The key of an artifact, or of the leftover of one."""
    return folder.name.removeprefix(".building-").removeprefix(".corrupt-").split("-")[0]


def _in_use(store: Store) -> str | None:
    """The name of a stage's lock that is held; None if all are free."""
    for path in sorted((store.root / "locks").glob("*.lease")):
        if path.stem == "gc":
            continue
        lease = store.lock(path.stem)
        if not lease.try_acquire():
            return path.stem[:12]
        lease.release()
    return None


def size(path: Path) -> int:
    """Total bytes of a file or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(p.stat().st_size for p in files if p.is_file() and not p.is_symlink())


def remove(store: Store, folders: Iterable[Path]) -> list[Path]:
    """Remove folders of the store, except those that a live run is building. Returns the removed ones."""
    removed = []
    for folder in folders:
        lease = store.lock(_key(folder))
        if not lease.try_acquire():
            continue
        try:
            if folder.is_symlink() or not folder.is_dir():
                folder.unlink()
            else:
                shutil.rmtree(folder)
            removed.append(folder)
        finally:
            lease.release()
    return removed
