"""What identifies a model, for stage keys and provenance: everything that loading it reads, and no path."""

import hashlib
from pathlib import Path
from typing import Any

from harness.memo import once
from harness.models.builtin.fetch import BUILTIN
from harness.models.checkpoints.adapters import base_of
from harness.models.checkpoints.folder import is_adapter, is_whole, loaded_files, opened
from harness.models.checkpoints.hub import cached_configuration
from harness.models.checkpoints.stamps import cached


def identity(model: str, revision: str | None = None) -> dict[str, Any]:
    """A model's identity, independent of its path: part of stage keys and of a board row's provenance. A hub id comes
    with the commit of its revision, if this machine's hub cache knows it; an adapter with the identity of its base.
    Raises ModelError."""
    return once(("model", model, revision), lambda: _identity(model, revision))


def _identity(model: str, revision: str | None) -> dict[str, Any]:
    own = _own_identity(model, revision)
    config = None if model in BUILTIN or Path(model).is_absolute() else cached_configuration(model, revision)
    folder = config.parent if config else Path(model)
    if model in BUILTIN or not folder.is_absolute() or not is_adapter(folder) or is_whole(folder):
        return own
    base = base_of(folder)
    return {**own, "base": _own_identity(base.model, base.revision)}


def _own_identity(model: str, revision: str | None) -> dict[str, Any]:
    """The identity of what the folder or repository itself holds."""
    if model in BUILTIN:
        return {"model": model, "sha256": BUILTIN[model].sha256}
    if Path(model).is_absolute():
        return {"model": Path(model).name, "sha256": _folder_hash(Path(model))}
    config = cached_configuration(model, revision)
    return {"model": model, "revision": config.parent.name if config else revision or "main"}


def _folder_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of the files that loading a model's folder may read."""
    files = loaded_files(folder)

    def compute() -> str:
        total = hashlib.sha256()
        for path in files:
            with opened(path, folder) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.relative_to(folder).as_posix()}:{digest}\n".encode())
        return total.hexdigest()

    return cached("model-hashes", folder, files, compute)
