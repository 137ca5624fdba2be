"""The checkpoints on the way that a stopped training resumes from, and whether they are still as they were saved."""

import hashlib
import json
import logging
import zipfile
from pathlib import Path

_log = logging.getLogger(__name__)

CHECKSUMS = "checksums.json"
"""A checkpoint's files with their SHA-256, written last."""


def checkpoints(work: Path) -> list[Path]:
    """The complete checkpoints that Trainer has written, oldest first; the trainer's state is written last. One without
    the optimizer's state doesn't count: Trainer would silently resume from it with a new optimizer."""
    paths = [p for p in work.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
    complete = [
        p for p in paths if _is_json(p / "trainer_state.json") and [*p.glob("optimizer*"), *p.glob("global_step*")]
    ]
    return sorted(complete, key=lambda p: int(p.name.removeprefix("checkpoint-")))


def last_checkpoint(work: Path) -> Path | None:
    """The checkpoint that a stopped run resumes from: the last one that isn't damaged. Damaged ones are named in a
    warning, and written again when training comes to their step."""
    for checkpoint in reversed(checkpoints(work)):
        damaged = _damaged_file(checkpoint)
        if damaged is None:
            return checkpoint
        _log.warning("%s: damaged; training resumes from an earlier checkpoint, or starts again", damaged)
    return None


def write_checksums(checkpoint: Path) -> None:
    """Record the content of a checkpoint that has just been saved."""
    files = sorted(p for p in checkpoint.rglob("*") if p.is_file() and p.name != CHECKSUMS)
    sums = {p.relative_to(checkpoint).as_posix(): _sha256(p) for p in files}
    (checkpoint / CHECKSUMS).write_text(json.dumps(sums, indent=1))


def _damaged_file(checkpoint: Path) -> Path | None:
    """A file that has changed since it was saved, or is missing. Without checksums (the run was killed before they were
    written), a file of torch's that isn't whole."""
    path = checkpoint / CHECKSUMS
    if not path.exists():
        saved = [*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth")]
        return next((file for file in sorted(saved) if not _is_whole_zip(file)), None)
    try:
        sums = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return path
    return next((checkpoint / name for name, value in sums.items() if _sha256(checkpoint / name) != value), None)


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _is_whole_zip(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError):
        return False


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True
