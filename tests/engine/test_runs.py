"""What a run needs stays while it lives: `gc` at any moment of it, on this machine or another."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.engine import lease as leases
from harness.engine.execute import execute
from harness.engine.maintenance import remove, unneeded
from harness.engine.runs import collecting, live_runs, running
from harness.engine.stage import Context, Stage
from harness.engine.store import Store
from tests.stages.scripted import Silent

Moment = Callable[[str], None]


class Run:
    """A run of two trainings and of what is measured on them, and the drawing of their board. `ran`: the stages that
    were run; `moment` is called at its moments by name."""

    def __init__(self, store: Store, moment: Moment) -> None:
        self.store = store
        self.ran: list[str] = []
        self._moment = moment
        data = self._stage("data")
        trained = [self._stage(f"train-{i}", data=data) for i in range(2)]
        self.stages = [data, *trained, *(self._stage(f"verdicts-{i}", answers=t) for i, t in enumerate(trained))]

    def _stage(self, name: str, **inputs: Stage) -> Stage:
        def body(ctx: Context) -> dict[str, Any]:
            self._moment(f"{name} begins")
            (ctx.folder / "weights").write_bytes(b"w" * 1000)
            ctx.partial.mkdir(parents=True, exist_ok=True)
            self._moment(f"{name} ends")
            self.ran.append(name)
            return {}

        return Stage(name, name.partition("-")[0], 1, {"name": name}, inputs, body)

    def go(self) -> None:
        with running(self.store, (stage.key for stage in self.stages)):
            self._moment("start")
            reporter = Silent()
            reporter.done = lambda stage, report, seconds: self._moment(f"after {stage.id}")  # type: ignore[method-assign]
            done = execute(SimpleNamespace(stages=self.stages), self.store, reporter)
            self._moment("drawing")
            for artifact in done.artifacts.values():
                assert artifact.path("weights").read_bytes() == b"w" * 1000
            self._moment("drawn")


def collect(store: Store, kept: str) -> list[Path]:
    with collecting(store):
        return remove(store, unneeded(store, {Path("other board"): {kept}}, partial=True).folders)


def void(_: object) -> None: ...


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def other(store: Store, name: str = "other") -> str:
    """An artifact of another board."""
    stage = Stage(name, "data", 1, {"name": name}, {}, lambda ctx: {})
    execute(SimpleNamespace(stages=[stage]), store, Silent())
    return stage.key


def test_gc_at_every_moment_of_a_run_takes_nothing_from_it(store: Store) -> None:
    kept, moments = other(store), []
    garbage = other(store, "garbage")

    def moment(name: str) -> None:
        moments.append(name)
        collect(store, kept)

    run = Run(store, moment)
    run.go()
    assert len(moments) >= 18
    assert sorted(run.ran) == sorted(stage.id for stage in run.stages)
    assert store.find(garbage) is None  # what neither needs goes, beside the run
    Run(store, lambda name: None).go()  # nothing is missing
    collect(store, kept)
    assert {path.name for path in store.artifacts.iterdir()} == {kept}  # and it goes when the run has ended


def test_gc_at_start_up_of_a_run_that_has_its_artifacts_already(store: Store) -> None:
    kept = other(store)
    Run(store, lambda name: None).go()
    again = Run(store, lambda name: void(collect(store, kept)))
    again.go()
    assert again.ran == []


def test_a_run_that_starts_while_gc_removes_waits_for_it(store: Store) -> None:
    events: list[str] = []
    with collecting(store):
        thread = threading.Thread(target=Run(store, events.append).go)
        thread.start()
        time.sleep(0.3)
        assert events == []
    thread.join(timeout=30)
    assert events[-1] == "drawn"


def test_what_is_being_built_is_not_removed(store: Store) -> None:
    folder = store.artifacts / other(store)
    with store.lock(folder.name):
        assert remove(store, [folder]) == []
        assert folder.exists()
    assert remove(store, [folder]) == [folder]
    assert not folder.exists()


@pytest.mark.slow
def test_gc_in_processes_of_its_own_beside_a_run(store: Store, tmp_path: Path) -> None:
    """At twenty moments that nobody chose."""
    kept = other(store)
    script = (
        "import sys; from pathlib import Path; from harness.engine.store import Store\n"
        "from tests.engine.test_runs import collect\n"
        "for _ in range(20): collect(Store(Path(sys.argv[1])), sys.argv[2])\n"
    )
    command = [sys.executable, "-c", script, str(store.root), kept]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    runs = 0
    while process.poll() is None and runs < 2000:
        run = Run(store, lambda name: time.sleep(0.005))
        run.go()
        assert len(run.ran) == len(set(run.ran))
        runs += 1
    assert process.wait(timeout=60) == 0
    assert runs > 1


def lease_elsewhere(store: Store, beat: int, **more: Any) -> Path:
    """The lease of a run on another machine."""
    path = store.root / "locks" / "runs" / "theirs.lease"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"kernel": "another", "nonce": "n", "beat": beat, "keys": ["k1"]} | more))
    return path


def test_a_run_of_another_machine_is_watched(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases.Lease.__init__, "__defaults__", (0.6, None))
    path = lease_elsewhere(store, 0)
    beats = threading.Timer(0.3, lambda: lease_elsewhere(store, 1))
    beats.start()
    assert live_runs(store) == {"k1"}
    beats.join()
    assert live_runs(store) == set()  # it has not moved again
    assert not list(path.parent.iterdir())


def test_a_killed_run_is_no_run(store: Store) -> None:
    script = (
        "import sys, os; from pathlib import Path; from harness.engine.store import Store\n"
        "from harness.engine.runs import running\n"
        "with running(Store(Path(sys.argv[1])), ['k']): os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(store.root)], cwd=Path(__file__).parents[2], check=False)
    assert list((store.root / "locks" / "runs").glob("*.lease"))
    assert live_runs(store) == set()
    with running(store, ["a", "b"]):
        assert live_runs(store) == {"a", "b"}
    assert live_runs(store) == set()
    assert not list((store.root / "locks" / "runs").iterdir())
