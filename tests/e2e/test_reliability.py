"""What happens to a run when the machine it is on fails it: each with its stated result."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_run import RECIPE, ROOT, board
from tests.forked import harness

pytestmark = pytest.mark.slow


class Runs:
    """A recipe, a finished run of it, and runs that something is done to."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.recipe = folder / "tiny.yaml"
        self.recipe.write_text(RECIPE.format(model=model))
        straight = self.run("straight")
        assert straight.returncode == 0, straight.stderr

    def home(self, name: str) -> Path:
        return self.folder / name / "home"

    def start(
        self, name: str, *more: str, before: Callable[[], Any] | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        (self.folder / name).mkdir(exist_ok=True)

        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell's children ignore it
            if before:
                before()

        return subprocess.Popen(
            [sys.executable, "-m", "harness.cli", "run", str(self.recipe), *more],
            cwd=self.folder / name,
            env={**os.environ, "HARNESS_HOME": str(self.home(name)), "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,
        )

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        (self.folder / name).mkdir(exist_ok=True)
        return harness("run", str(self.recipe), home=self.home(name), cwd=self.folder / name)

    def finished(self, name: str) -> int:
        return len(list((self.home(name) / "store" / "artifacts").glob("*/artifact.json")))

    def wait_for(self, name: str, count: int, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 120
        while self.finished(name) < count:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def goes_on(self, name: str, kept: int) -> None:
        """The same command ends with the board of the run that was left alone, and does again only what is missing."""
        done = self.run(name)
        assert done.returncode == 0, done.stderr
        found = re.search(r"(\d+) found in the store", done.stdout)
        assert found is not None
        assert int(found[1]) >= kept
        rows = [[row["id"], row["metrics"]] for row in board(self.folder / name)["rows"]]
        assert rows == [[row["id"], row["metrics"]] for row in board(self.folder / "straight")["rows"]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, wordy_tiny_model: Path) -> Runs:
    return Runs(tmp_path_factory.mktemp("reliability"), wordy_tiny_model)


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGINT, ()),
        pytest.param(signal.SIGTERM, (), marks=pytest.mark.soak),
        (signal.SIGTERM, ("--ray", "local")),  # which Ray would take for itself
    ],
    ids=["SIGINT", "SIGTERM", "SIGTERM-ray"],
)
def test_asked_once_it_ends_after_the_batch_and_goes_on_later(
    number: signal.Signals, options: tuple[str, ...], runs: Runs
) -> None:
    name = "-".join(["once", number.name, *options[1:]])
    process = runs.start(name, *options)
    runs.wait_for(name, 4, process)
    process.send_signal(number)
    started = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 35
    assert process.returncode == 130
    assert err.splitlines() == [
        "harness: stopping after this batch; interrupt again to stop at once",
        "harness: stopped; the same command goes on from the last finished stage",
    ]
    runs.goes_on(name, 4)


def test_asked_twice_it_ends_at_once(runs: Runs) -> None:
    process = runs.start("twice")
    runs.wait_for("twice", 2, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 20  # what is under way would take longer
    assert process.returncode == 130
    assert "Traceback" not in err


@contextmanager
def small_disk(home: Path, options: str) -> Iterator[None]:
    """A file system of its own at `home`, if one may be mounted here."""
    home.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(home)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(home)], check=True)


@pytest.mark.soak
def test_a_full_disk_is_a_line_and_nothing_finished_is_lost(runs: Runs) -> None:
    home = runs.home("full")
    with small_disk(home, "size=500k"):
        process = runs.start("full")
        _, err = process.communicate(timeout=200)
        assert process.returncode == 2
        assert err.count("\n") == 1
        assert "No space left on device" in err
        kept = runs.finished("full")
        assert kept > 0
        verified = subprocess.run(
            [sys.executable, "-m", "harness.cli", "cache", "verify", "--store", str(home / "store")],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert verified.returncode == 0, verified.stderr
        subprocess.run(["mount", "-o", "remount,size=200m", str(home)], check=True)
        runs.goes_on("full", kept)


def test_a_store_that_can_t_be_written_is_a_line(runs: Runs) -> None:
    with small_disk(runs.home("readonly"), "ro"):
        process = runs.start("readonly")
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2
        assert err.count("\n") == 1
        assert "set HARNESS_HOME to a writable folder" in err


def damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        pytest.param("ranked", "ranked.jsonl", marks=pytest.mark.soak),
        ("train", "checkpoint/adapter_model.safetensors"),
        pytest.param("verdicts", "metrics.json", marks=pytest.mark.soak),
        ("seeds", "artifact.json"),
    ],
)
def test_a_broken_artifact_is_made_again(stage: str, file: str, runs: Runs) -> None:
    """Also one that only goes into a stage that is still to be run: here the checkpoint's answers are taken away."""
    store = runs.home("straight") / "store" / "artifacts"
    records = {path.parent: json.loads(path.read_text()) for path in store.glob("*/artifact.json")}
    (folder, *_) = [f for f, r in records.items() if r["stage"] == stage]
    damaged(folder / file)
    if stage == "train":
        for answers, record in records.items():
            if folder.name in record["inputs"].values() and record["stage"] == "answers":
                (answers / "artifact.json").unlink()
    before = (runs.folder / "straight" / "leaderboards" / "tiny" / "board.md").read_bytes()
    done = runs.run("straight")
    assert done.returncode == 0, done.stderr
    if file != "artifact.json":
        assert "its content has changed since it was written; it is computed again" in " ".join(done.stdout.split())
    assert (runs.folder / "straight" / "leaderboards" / "tiny" / "board.md").read_bytes() == before


@pytest.mark.soak
def test_clocks_may_jump(runs: Runs, tmp_path: Path) -> None:
    """The time of day goes back and forth by days; the board is the same."""
    (tmp_path / "sitecustomize.py").write_text(
        "import random, time\nreal = time.time\ntime.time = lambda: real() + random.choice([-3e6, 0, 86400, 4e7])\n"
    )
    process = runs.start("clock", PYTHONPATH=f"{tmp_path}:{ROOT}")
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    for path in (runs.home("clock") / "store").rglob("*"):
        moved = time.time() + random.Random(str(path)).uniform(-1e8, 1e8)
        os.utime(path, (moved, moved))
    runs.goes_on("clock", runs.finished("clock"))
