"""The store: finished stages as content-addressed folders.

An artifact is a folder named by its stage's key. It is built under a temporary name and renamed when whole;
`artifact.json` is written last, so a folder without it was never finished. A lock a key lets two runs share a store:
the second waits for what the first is computing and then uses it.
"""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import StoreError
from harness.lease import Lease
from harness.types import Record

_log = logging.getLogger("harness")

SCHEMA = 1
RECORD = "artifact.json"
R = TypeVar("R", bound=Record)


def canonical_json(value: Any) -> str:
    """The one text of a JSON value: sorted keys, no spaces. Raises ValueError for NaN, infinity and other types."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def stage_key(name: str, version: int, params: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """SHA-256 (hex) of what a stage's result depends on; `inputs` are its inputs' keys by role."""
    identity = {"name": name, "version": version, "params": params, "inputs": inputs}
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


class FileRecord(Record):
    sha256: str
    bytes: int


class ArtifactRecord(Record):
    """`artifact.json`: what an artifact is, what it was made from and by. `report`: what its stage found."""

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
    """Of the record itself, without this field; empty in records of before it was there."""

    def digest(self) -> str:
        """What `sha256` must be."""
        # As it will be read back: keys are texts then, and tuples lists.
        plain = json.loads(json.dumps(self.model_dump(mode="json", exclude={"sha256"})))
        return hashlib.sha256(canonical_json(plain).encode()).hexdigest()

    @property
    def is_whole(self) -> bool:
        """Whether nothing in it has changed since it was written."""
        try:
            return not self.sha256 or self.sha256 == self.digest()
        except (ValueError, RecursionError):  # what was never written: NaN, or nested without end
            return False


class Artifact:
    """A finished stage. Files are checked against their recorded size when the artifact is opened, and what is read
    as rows or JSON against its SHA-256."""

    def __init__(self, folder: Path, record: ArtifactRecord) -> None:
        self.folder = folder
        self.record = record

    @property
    def report(self) -> dict[str, Any]:
        return self.record.report

    def path(self, name: str) -> Path:
        """A file of the artifact, checked against its SHA-256."""
        with (self.folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self.record.files[name].sha256:
                raise StoreError(
                    f"{self.folder / name}: its content has changed since it was made; delete {self.folder}"
                )
        return self.folder / name

    def _read(self, name: str) -> str:
        return self.path(name).read_text(encoding="utf-8")

    def rows(self, name: str, row: type[R]) -> list[R]:
        """The records of a JSONL file."""
        # Not splitlines(): JSON strings may hold U+2028 and its like.
        return [row.model_validate_json(line) for line in self._read(name).split("\n") if line]

    def json(self, name: str) -> Any:
        return json.loads(self._read(name))


def write_rows(path: Path, rows: Sequence[Record]) -> None:
    """Write records as JSONL. Raises ValueError for NaN and infinity: read back, they would be "not scored"."""
    lines = [json.dumps(row.model_dump(mode="json"), ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people to read; NaN and infinity are refused."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


_seen: dict[tuple[str, int, int], str] = {}


def _is(path: Path, digest: str) -> bool:
    """Whether a file has this SHA-256; remembered by its size and time."""
    stat = path.stat()
    known = (str(path), stat.st_mtime_ns, stat.st_size)
    if known not in _seen:
        with path.open("rb") as file:
            _seen[known] = hashlib.file_digest(file, "sha256").hexdigest()
    return _seen[known] == digest


class Store:
    """Artifacts under `root`, and the journals that grow beside them. Raises StoreError when it can't be written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            for folder in (self.artifacts, self.journals, root / "locks"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"store {root} can't be written ({error.strerror})"
            raise StoreError(f"{reason}; set HARNESS_HOME to a folder that can") from error

    @property
    def artifacts(self) -> Path:
        """Folder of the artifacts: a folder each, named by its key; what is being made has a dot before it."""
        return self.root / "artifacts"

    @property
    def journals(self) -> Path:
        """Folder of the journals: append-only, keyed by content."""
        return self.root / "journals"

    @property
    def pool(self) -> Path:
        """Folder of the journals of samples."""
        return self.journals / "samples"

    def lock(self, name: str) -> Lease:
        """One holder at a time, over processes and machines; a dead one's lapses. See `harness.lease`."""
        return Lease(self.root / "locks" / name)

    def find(self, key: str) -> Artifact | None:
        """The finished artifact of a key, or None. One with a missing or cut file counts as not there."""
        folder = self.artifacts / key
        try:
            record = ArtifactRecord.model_validate_json((folder / RECORD).read_text())
            if record.key != key or not record.is_whole:
                return None
        except (OSError, ValueError, RecursionError):  # not there, or what a fault of the disk has made of it
            return None
        for name, file in record.files.items():
            path = folder / name
            # Nothing that a record or a link leads to outside of the artifact is the artifact's.
            inside = path.resolve() == folder.resolve() / name
            if not inside or not path.is_file() or path.stat().st_size != file.bytes:
                return None
        return Artifact(folder, record)

    def sound(self, key: str, largest: int | None = None) -> Artifact | None:
        """`find`, and the files' content is what was recorded: of those up to `largest` bytes, None: of all. Each file
        is read once a process. An artifact that is broken is put aside, to be made again, and a warning says so."""
        artifact = self.find(key)
        if artifact is None:
            return None
        for name, file in artifact.record.files.items():
            path = artifact.folder / name
            if (largest is None or file.bytes <= largest) and not _is(path, file.sha256):
                aside = self.artifacts / f".corrupt-{key}"
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(artifact.folder, aside)
                _log.warning("%s: its content has changed since it was made; it is made again", path)
                return None
        return artifact

    def partial(self, key: str) -> Path:
        """Where an unfinished stage keeps what it goes on from, should it be stopped; gone once it is published."""
        return self.root / "partial" / key

    @property
    def logs(self) -> Path:
        """Folder of what draws a run's curves."""
        return self.root / "logs"

    @contextlib.contextmanager
    def building(self, key: str) -> Iterator[Path]:
        """A fresh folder to build an artifact in; hold the key's lock. What a killed run left is removed. No two have
        the same: a holder that comes back from the dead must not write into another's."""
        for left in self.artifacts.glob(f".building-{key}-*"):
            shutil.rmtree(left, ignore_errors=True)
        scratch = self.artifacts / f".building-{key}-{secrets.token_hex(4)}"
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def publish(self, scratch: Path, record: ArtifactRecord) -> Artifact:
        """Record the files of a built folder and move it into place."""
        files = {}
        for path in sorted(p for p in scratch.rglob("*") if p.is_file()):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[path.relative_to(scratch).as_posix()] = FileRecord(sha256=digest, bytes=path.stat().st_size)
        record = record.model_copy(update={"files": files})
        record = record.model_copy(update={"sha256": record.digest()})
        write_json(scratch / RECORD, record.model_dump(mode="json"))
        folder = self.artifacts / record.key
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(scratch, folder)
        shutil.rmtree(self.partial(record.key), ignore_errors=True)
        return Artifact(folder, record)
