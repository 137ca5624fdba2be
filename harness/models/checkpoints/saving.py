"""Files that others on a shared store may read."""

import os
import stat
from pathlib import Path


def follow_umask(folder: Path) -> None:
    """Give the files and folders in a folder, and below it, the rights that the process's umask leaves to new ones.
    Libraries write some for their owner alone: safetensors through a temporary file."""
    probe = folder / f".rights-{os.getpid()}"
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    usual = stat.S_IMODE(probe.stat().st_mode)  # reading the umask itself would change it for other threads
    probe.unlink()
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            wanted = mode | usual | (usual >> 2 & 0o111 if stat.S_ISDIR(mode) else 0)
            if wanted != mode:
                path.chmod(stat.S_IMODE(wanted))
