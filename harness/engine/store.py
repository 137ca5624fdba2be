"""The store keeps the results of finished stages as content-addressed folders (artifacts).

An artifact is a folder named by its stage's key. It is built under a temporary name and renamed when complete.
`artifact.json` is written last, so a folder without it was never finished. One lock per key lets several runs share a
store: the second waits for what the first is computing and then uses it.
"""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from harness.engine.durable import make_folder, sync
from harness.engine.lease import Lease
from harness.errors import StoreError
from harness.models.checkpoints.saving import follow_umask
from harness.outside import read_file
from harness.types import Record

_log = logging.getLogger("harness")

SCHEMA = 1
RECORD = "artifact.json"
R = TypeVar("R", bound=Record)


def canonical_json(value: Any) -> str:
    """The canonical text of a JSON value: sorted keys, no spaces. Raises ValueError for NaN, infinity and non-JSON
    types."""
    return _canonical(value)


_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


_plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def stage_key(name: str, version: int, params: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """SHA-256 (hex) of everything that a stage's result depends on. `inputs`: its inputs' keys by role."""
    identity = {"name": name, "version": version, "params": params, "inputs": inputs}
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


class FileRecord(Record):
    """Hash and size of one file of an artifact."""

    sha256: str
    bytes: int


class ArtifactRecord(Record):
    """The content of `artifact.json`: an artifact's identity, inputs, files and provenance. `report`: its stage's
    report."""

    schema_version: int = SCHEMA
    key: str
    stage: str
    version: int
    params: dict[str, Any]
    inputs: dict[str, str]
    files: dict[str, FileRecord]
    report: dict[str, Any]
    made_by: dict[str, Any]
    seconds: float
    sha256: str = ""
    """Hash of the record without this field; empty in records from before the field existed."""

    def digest(self) -> str:
        """The correct value of `sha256`."""
        # In the form in which it will be read back: keys become texts, and tuples lists.
        plain = json.loads(json.dumps(self.model_dump(mode="json", exclude={"sha256"})))
        return hashlib.sha256(canonical_json(plain).encode()).hexdigest()

    @property
    def is_whole(self) -> bool:
        """Whether the record is unchanged since it was written."""
        try:
            return not self.sha256 or self.sha256 == self.digest()
        except (ValueError, RecursionError):  # never written by us: NaN, or too deeply nested
            return False


class Artifact:
    """The result of a finished stage. File sizes are checked when the artifact is opened, and the SHA-256 of a file
    whenever it is read."""

    def __init__(self, folder: Path, record: ArtifactRecord) -> None:
        self.folder = folder
        self.record = record

    @property
    def report(self) -> dict[str, Any]:
        return self.record.report

    @property
    def finished(self) -> datetime:
        """When its record was written, by the file system, in UTC."""
        return datetime.fromtimestamp((self.folder / RECORD).stat().st_mtime, UTC)

    def path(self, name: str) -> Path:
        """The path of a file. Raises StoreError if its content doesn't match the recorded SHA-256."""
        with (self.folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self.record.files[name].sha256:
                raise StoreError(
                    f"{self.folder / name}: its content has changed since it was written; delete {self.folder}"
                )
        return self.folder / name

    def copy(self, name: str, target: Path) -> None:
        """Copy a file out of the artifact, with the folders that it needs. Raises StoreError as `path` does."""
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path(name), target)

    def _read(self, name: str) -> str:
        return self.path(name).read_text(encoding="utf-8")

    def rows(self, name: str, row: type[R]) -> list[R]:
        """The records of a JSONL file."""
        return list(self.stream(name, row))

    def stream(self, name: str, row: type[R]) -> Iterator[R]:
        """The records of a JSONL file, read one by one."""
        with self.path(name).open("rb") as file:  # in bytes: texts may contain U+2028 and other line separators
            yield from (row.model_validate_json(line) for line in file if line != b"\n")

    def json(self, name: str) -> Any:
        """The value of a JSON file."""
        return json.loads(self._read(name))


def line_of(row: Record) -> bytes:
    """A record as a line of JSON. Raises ValueError for NaN and infinity, which would be read back as "not scored"."""
    return f"{_plain(row.model_dump(mode='json'))}\n".encode()


def write_rows(path: Path, rows: Iterable[Record]) -> None:
    """Write records as JSONL, one by one. Raises ValueError as `line_of` does."""
    try:
        with path.open("wb") as file:
            file.writelines(map(line_of, rows))
    except ValueError:
        path.unlink()
        raise


def write_json(path: Path, value: Any) -> None:
    """Write human-readable JSON. Raises ValueError for NaN and infinity."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


_digests: dict[tuple[str, int, int], str] = {}


def _has_digest(path: Path, digest: str) -> bool:
    """Whether a file has this SHA-256. Hashes are cached by path, size and modification time."""
    about = path.stat()
    cache_key = (str(path), about.st_mtime_ns, about.st_size)
    if cache_key not in _digests:
        with path.open("rb") as file:
            _digests[cache_key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[cache_key] == digest


class Store:
    """Artifacts under `root`, and journals beside them. Raises StoreError if the folder can't be written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            for folder in (self.artifacts, self.journals, root / "locks"):
                make_folder(folder)
        except OSError as error:
            reason = f"store {root} can't be written ({error.strerror})"
            raise StoreError(f"{reason}; set HARNESS_HOME to a writable folder") from error

    @property
    def artifacts(self) -> Path:
        """Folder of the artifacts: one folder each, named by its key; unfinished ones begin with a dot."""
        return self.root / "artifacts"

    @property
    def journals(self) -> Path:
        """Folder of the journals, which are append-only and keyed by content."""
        return self.root / "journals"

    @property
    def pool(self) -> Path:
        """Folder of the journals of samples (the sample pool)."""
        return self.journals / "samples"

    def lock(self, name: str) -> Lease:
        """An exclusive lock across processes and machines, which expires when its holder dies; see
        `harness.engine.lease`."""
        return Lease(self.root / "locks" / name)

    def find(self, key: str) -> Artifact | None:
        """The finished artifact of a key, or None. An artifact with a missing or truncated file counts as missing."""
        folder = self.artifacts / key
        try:
            record = ArtifactRecord.model_validate_json(read_file(folder / RECORD, inside=folder))
            if record.key != key or not record.is_whole:
                return None
        except (OSError, ValueError, RecursionError):  # missing, or damaged by a disk fault
            return None
        for name, file in record.files.items():
            path = folder / name
            # A record or link must not lead outside of the artifact.
            inside = path.resolve() == folder.resolve() / name
            if not inside or not path.is_file() or path.stat().st_size != file.bytes:
                return None
        return Artifact(folder, record)

    def sound(self, key: str, largest: int | None = None) -> Artifact | None:
        """`find`, with the content of its files checked too: of those up to `largest` bytes; None: of all. Each file is
        read once per process. A broken artifact is moved aside, so that it is computed again, and a warning is
        logged."""
        artifact = self.find(key)
        if artifact is None:
            return None
        for name, file in artifact.record.files.items():
            path = artifact.folder / name
            if (largest is None or file.bytes <= largest) and not _has_digest(path, file.sha256):
                aside = self.artifacts / f".corrupt-{key}"
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(artifact.folder, aside)
                _log.warning("%s: its content has changed since it was written; it is computed again", path)
                return None
        return artifact

    def partial(self, key: str) -> Path:
        """Folder for the state from which an interrupted stage resumes; removed when its artifact is published."""
        return self.root / "partial" / key

    @property
    def logs(self) -> Path:
        """Folder of training logs (for TensorBoard)."""
        return self.root / "logs"

    @contextlib.contextmanager
    def building(self, key: str) -> Iterator[Path]:
        """A fresh folder to build an artifact in; the caller must hold the key's lock. Removes leftovers of killed
        runs. Folder names are unique, so that a holder that has lost its lock can't write into another's folder."""
        for leftover in self.artifacts.glob(f".building-{key}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        scratch = self.artifacts / f".building-{key}-{secrets.token_hex(4)}"
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def publish(self, scratch: Path, record: ArtifactRecord) -> Artifact:
        """Record the files of a built folder and move it into place. Everything is on disk before it gets its name, so
        that after a power cut an artifact is whole or not there."""
        follow_umask(scratch)
        for parent, _, _ in os.walk(scratch, topdown=False):
            if parent != str(scratch) and not os.listdir(parent):
                os.rmdir(parent)  # a trainer's working folder
        files = {}
        for path in sorted(p for p in scratch.rglob("*") if p.is_file()):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            files[path.relative_to(scratch).as_posix()] = FileRecord(sha256=digest, bytes=path.stat().st_size)
        record = record.model_copy(update={"files": files})
        record = record.model_copy(update={"sha256": record.digest()})
        write_json(scratch / RECORD, record.model_dump(mode="json"))
        sync(scratch / RECORD)
        for parent, _, _ in os.walk(scratch, topdown=False):
            sync(Path(parent))
        folder = self.artifacts / record.key
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(scratch, folder)
        sync(self.artifacts)
        shutil.rmtree(self.partial(record.key), ignore_errors=True)
        return Artifact(folder, record)
