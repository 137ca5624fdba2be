"""What the package brings without an extra: `python -m tests.perf.light_install`.

Installs it into a new virtual environment, with the versions that were tested. The last line is one JSON object:
`seconds`, of pip, which builds the package and takes other wheels from its cache where they are there; `megabytes` on
disk that pip added; `gate_seconds`, from the start of `harness gate` on a board of four rows to its end, a median.
`--small`: no installation; the gate of this environment, three times.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.perf._shared import ROOT, options, report

GATE = ("gate", str(ROOT / "leaderboards" / "quickstart"), "--row", "multi-dpo", "--baseline-row", "dpo", "--allow")


class Installed(NamedTuple):
    """`python`: the environment's. `seconds`: of the installation. `megabytes`: what it has added, on disk."""

    python: Path
    seconds: float
    megabytes: float


def install(folder: Path) -> Installed:
    """Install the package alone into a new virtual environment."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
    python, before = folder / "bin" / "python", size(folder)
    command = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / ".ci" / "constraints.txt"), str(ROOT)]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr[-3000:]
    return Installed(python, seconds, (size(folder) - before) / 1e6)


def size(folder: Path) -> int:
    """Bytes on disk, as `du` counts them."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def gate_seconds(python: Path | str, times: int) -> float:
    """The median time of a gate, from its start to its end."""
    taken = []
    for _ in range(times):
        started = time.monotonic()
        done = subprocess.run([str(python), "-m", "harness.cli", *GATE], capture_output=True, check=False, timeout=60)
        taken.append(time.monotonic() - started)
        assert done.returncode in (0, 3), done.stderr
    return statistics.median(taken)


def main() -> None:
    if options(__doc__).parse_args().small:
        report({"gate_seconds": gate_seconds(sys.executable, 3)})
        return
    with tempfile.TemporaryDirectory() as folder:
        done = install(Path(folder) / "light")
        gate = gate_seconds(done.python, 9)
    report({"seconds": done.seconds, "megabytes": done.megabytes, "gate_seconds": gate})


if __name__ == "__main__":
    main()
