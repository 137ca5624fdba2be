"""The quickstart, killed again and again without warning: nothing is lost, nothing is made twice.

pytest -n 0 -m soak tests/e2e/test_kills.py
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
KILLS = 30


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HARNESS_HOME": str(home), "PYTHONPATH": str(ROOT)}


def command() -> list[str]:
    return [sys.executable, "-m", "harness.cli", "run", str(ROOT / "recipes" / "quickstart.yaml")]


def figures(folder: Path) -> list[Any]:
    rows = json.loads((folder / "leaderboards" / "quickstart" / "board.json").read_text())["rows"]
    return [[row["id"], row["metrics"]] for row in rows]


def journal_keys(home: Path) -> dict[str, list[str]]:
    found = {}
    for path in sorted((home / "store" / "journals").rglob("*.jsonl")):
        lines = path.read_text().splitlines()
        found[str(path.relative_to(home))] = [json.loads(line)["key"] for line in lines]
    return found


def finished(home: Path) -> int:
    return len(list((home / "store" / "artifacts").glob("*/artifact.json")))


@pytest.mark.soak
def test_thirty_kills(tmp_path: Path) -> None:
    models = Path(os.environ.get("SOAK_MODELS", tmp_path / "straight" / "home" / "models"))
    homes = {name: tmp_path / name / "home" for name in ("straight", "killed")}
    for home in homes.values():
        home.mkdir(parents=True)
        if models.is_dir():
            (home / "models").symlink_to(models)
    subprocess.run(command(), cwd=tmp_path / "straight", env=environment(homes["straight"]), check=True)
    stages = finished(homes["straight"])
    rng = random.Random(0)
    killed = 0
    # Spread over the run: each kill waits for so many finished stages, and a few seconds more.
    for wanted in sorted(rng.randrange(stages) for _ in range(KILLS)):
        process = subprocess.Popen(
            command(),
            cwd=tmp_path / "killed",
            env=environment(homes["killed"]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and finished(homes["killed"]) < wanted:
            time.sleep(0.2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=rng.uniform(8, 20))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed >= KILLS * 2 // 3, "the run was over before it could be killed often"
    subprocess.run(command(), cwd=tmp_path / "killed", env=environment(homes["killed"]), check=True)
    assert figures(tmp_path / "killed") == figures(tmp_path / "straight")
    ours, theirs = journal_keys(homes["killed"]), journal_keys(homes["straight"])
    assert ours.keys() == theirs.keys()
    for name, keys in ours.items():
        assert len(keys) == len(set(keys)), name
        assert set(keys) == set(theirs[name]), name
    print(f"{killed} kills")
