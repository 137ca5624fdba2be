"""How long the quickstart takes from nothing, and how much memory: `python -m tests.perf.quickstart`.

The model is fetched and converted anew, every stage is run, and a second run finds everything in the store. The last
line is one JSON object: `seconds`, `second_run_seconds`, `gigabytes` (peak resident memory). `--small`: the same recipe
on a tiny random model, which is not fetched, with one epoch and two new prompts.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.perf._shared import ROOT, options, report, tiny_model

RECIPE = ROOT / "recipes" / "quickstart.yaml"
MODEL = "smollm2-135m-instruct"
# A random model's texts seldom pass as prompts: it gets more attempts, and more randomness.
SMALL = ("data.prompts.count=2", "data.prompts.max_attempts=40", "data.prompts.temperature=1.0", "training.epochs=1")


def timed_run(folder: Path, arguments: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak gigabytes of one `harness run` with the store in `folder`."""
    environment = {**os.environ, "HARNESS_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harness.cli", "run", *arguments]
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the quickstart failed")
    return time.monotonic() - started, usage.ru_maxrss * 1024 / 1e9


def small_recipe(folder: Path) -> list[str]:
    """The arguments of a run of the quickstart on a tiny model."""
    recipe = folder / RECIPE.name
    text = RECIPE.read_text().replace(MODEL, str(tiny_model(folder / "model")))
    recipe.write_text(text.replace("path: short", f"path: {RECIPE.parent}/short"))
    return [str(recipe), *(word for edit in SMALL for word in ("--set", edit))]


def main() -> None:
    chosen = options(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        arguments = small_recipe(folder) if chosen.small else [str(RECIPE)]
        seconds, gigabytes = timed_run(folder, arguments)
        again, _ = timed_run(folder, arguments)
    report({"seconds": round(seconds, 1), "second_run_seconds": round(again, 1), "gigabytes": round(gigabytes, 2)})


if __name__ == "__main__":
    main()
