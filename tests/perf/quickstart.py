"""How long the quickstart takes from nothing, and how much memory: `python -m tests.perf.quickstart`.

The model is fetched and converted anew, every stage is run, and a second run finds everything there. The last line is
one JSON object: `seconds`, `second_run_seconds`, `gigabytes` (peak resident memory).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def timed_run(folder: Path) -> tuple[float, float]:
    """Seconds and peak gigabytes of one `harness run` with the store in `folder`."""
    environment = {**os.environ, "HARNESS_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harness.cli", "run", str(ROOT / "recipes" / "quickstart.yaml")]
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the quickstart failed")
    return time.monotonic() - started, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        seconds, gigabytes = timed_run(Path(scratch))
        again, _ = timed_run(Path(scratch))
    print(json.dumps({"seconds": round(seconds, 1), "second_run_seconds": round(again, 1), "gigabytes": gigabytes}))


if __name__ == "__main__":
    main()
