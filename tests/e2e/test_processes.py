"""A whole run whose trainings and passes over rows are shared by two processes."""

from pathlib import Path

import pytest

from tests.e2e.test_run import RECIPE, board
from tests.forked import harness

RUNTIME = "runtime: {score_batch_size: 8, launch: {accelerate: {num_processes: 2}}}\n"


@pytest.mark.soak
@pytest.mark.slow
def test_processes_share_a_run(wordy_tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.format(model=wordy_tiny_model) + RUNTIME)
    home = tmp_path / "home"
    done = harness("run", str(recipe), home=home, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "leaderboards" / "tiny" / "run.log").read_text()
    # Two trainings with their held-out pairs, the reference, the scores of held-out pairs and those that rank.
    assert log.count("accelerate launch exited with 0") == 7
    first = board(tmp_path)
    stored = sorted(path.name for path in (home / "store" / "artifacts").iterdir())
    recipe.write_text(RECIPE.format(model=wordy_tiny_model))
    again = harness("run", str(recipe), home=home, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert sorted(path.name for path in (home / "store" / "artifacts").iterdir()) == stored, "the keys are the same"
    assert [row["metrics"] for row in board(tmp_path)["rows"]] == [row["metrics"] for row in first["rows"]]
