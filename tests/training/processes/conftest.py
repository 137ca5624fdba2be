"""Processes of this machine, one thread each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.protocols import Keep
from harness.recipe.launch import Accelerate
from harness.training import passes
from harness.training.processes import Job, run_job
from harness.training.ranked import job as training
from harness.types import Advance
from tests.training.processes.together import Together


@pytest.fixture
def launchable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="package")
def _running() -> Iterator[dict[str, Together]]:
    """Processes of the tests here, by how they were started."""
    running: dict[str, Together] = {}
    yield running
    for processes in running.values():
        processes.end()


@pytest.fixture
def together(
    launchable: None,
    _running: dict[str, Together],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All tests that ask for it run their jobs in the same two processes; in three, which one test wants, as always."""

    def run(job: Job, how: Accelerate, folder: Path, advance: Advance, keep: Keep = print, **needs: Any) -> Any:
        if how.processes != 2:
            return run_job(job, how, folder, advance, keep, **needs)
        key = how.model_dump_json()
        if key not in _running or not _running[key].running:  # a failed test may have ended them
            _running[key] = Together(how, tmp_path_factory.mktemp("together"))
        return _running[key].run(job, advance, keep)

    for module in (training, passes):
        monkeypatch.setattr(module, "run_job", run)
