"""How a result was produced: package versions, hardware, the harness's revision. No paths and no names of people."""

import os
import platform
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import harness
from harness.children.start import run
from harness.outside_yaml import parse_yaml

DISTRIBUTION = "preference-harness"
PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "alpaca-eval", "fschat", "openai", "numpy", "scipy")


CHECKED = ("", "parquet", "judge", "train")
"""Extras with what figures depend on; the first stands for what is always installed."""


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


def packages_out_of_range() -> list[str]:
    """What is installed in a version that this package's metadata doesn't admit, a line each. pip lets another
    package's installation break these ranges, and figures of versions that nobody tried may be wrong. What an extra
    brings may be missing."""
    from packaging.requirements import Requirement
    from packaging.version import InvalidVersion

    try:
        ranges = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:  # run from a checkout that isn't installed
        return []
    lines = []
    for wanted in ranges:
        is_needed = wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in CHECKED)
        number = _version(wanted.name) if is_needed else None
        try:
            if number is None or wanted.specifier.contains(number, prereleases=True):
                continue
        except InvalidVersion:  # not a number that pip would write, so it's in no range
            pass
        lines.append(
            f"{wanted.name} {number} is installed, and the harness is tested with {wanted.specifier}: figures may be "
            f"wrong; pip install '{wanted.name}{wanted.specifier}'"
        )
    return list(dict.fromkeys(lines))


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


def committed_since(file: Path) -> tuple[str, datetime] | None:
    """The commit since which a YAML file has the data that it has now, whatever its comments, and the commit's time in
    UTC; None where the last commit has other data."""
    found = None
    try:
        data = parse_yaml(file.read_text(encoding="utf-8"))
        for line in (_git(file.parent, "log", "--format=%H %ct", "--", file.name) or "").splitlines():
            commit, seconds = line.split()
            if parse_yaml(_git(file.parent, "show", f"{commit}:./{file.name}") or "") != data:
                break
            found = commit, datetime.fromtimestamp(int(seconds), UTC)
    except (OSError, ValueError):  # not readable, then or now
        pass
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    # A repository's own settings must not name programs that git runs.
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", str(folder), *arguments]
    try:
        result = run(command, seconds=30)
    except (OSError, TimeoutError):
        return None
    return None if result.returncode else result.stdout.strip()
