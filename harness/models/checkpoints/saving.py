"""Saved weights that others on a shared store may read."""

import os
import stat
from pathlib import Path


def follow_umask(folder: Path) -> None:
    """Give the files in a folder, and below it, the rights that the process's umask leaves to new files. safetensors
    writes through a temporary file that only its owner may read."""
    probe = folder / f".rights-{os.getpid()}"
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    usual = stat.S_IMODE(probe.stat().st_mode)  # reading the umask itself would change it for other threads
    probe.unlink()
    for path in folder.rglob("*.safetensors"):
        if not path.is_symlink() and path.is_file():
            path.chmod(stat.S_IMODE(path.stat().st_mode) | usual)
