"""How a result was produced: package versions, hardware, the harness's revision. No paths and no names of people."""

import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import harness
from harness.children.start import run

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "alpaca-eval", "fschat", "openai", "numpy", "scipy")


@cache
def made_by() -> dict[str, Any]:
    """The provenance recorded in artifacts and board rows."""
    return {
        "harness": {"version": harness.__version__, **_revision()},
        "packages": {name: number for name in PACKAGES if (number := _version(name))},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def accelerator() -> str:
    """The name of the device that torch would use; imports torch."""
    import torch

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.cuda.get_device_name() if device and device.type == "cuda" else str(device or "cpu")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _revision() -> dict[str, Any]:
    """Commit of the harness's own checkout, and whether it has uncommitted changes; empty for an installed wheel."""
    folder = Path(harness.__file__).parent
    if not (folder.parent / ".git").exists():
        return {}
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return {}
    return {"commit": head, "dirty": bool(_git(folder, "status", "--porcelain", "--", str(folder)))}


def commit_of(folder: Path) -> str | None:
    """The commit checked out in the repository of a folder; None outside of a repository."""
    return _git(folder, "rev-parse", "HEAD")


def _git(folder: Path, *arguments: str) -> str | None:
    # A repository's own settings must not name programs that git runs.
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", str(folder), *arguments]
    try:
        result = run(command, seconds=30)
    except (OSError, TimeoutError):
        return None
    return None if result.returncode else result.stdout.strip()
