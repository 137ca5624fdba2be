"""The quickstart as the README runs it, on the real model: memory, and that every method learns (how long it takes is
measured by `tests.perf.quickstart`)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run with a store of its own (the converted model may be there already): its board, artifacts, figures."""
    folder = tmp_path_factory.mktemp("quickstart")
    environment = {**os.environ, "HARNESS_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-m", "harness.cli", "run", str(ROOT / "recipes" / "quickstart.yaml")]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, output
    records = [json.loads(p.read_text()) for p in (folder / "home/store/artifacts").glob("*/artifact.json")]
    return {
        "gigabytes": usage.ru_maxrss * 1024 / 1e9,
        "output": output,
        "board": json.loads((folder / "leaderboards/quickstart/board.json").read_text()),
        "records": records,
    }


def test_it_fits_a_laptop(run: dict[str, Any]) -> None:
    assert run["gigabytes"] < 6


def test_every_method_learns(run: dict[str, Any]) -> None:
    trained = [r["report"] for r in run["records"] if r["stage"] == "train"]
    assert len(trained) == 3
    for report in trained:
        assert report["last_loss"] < report["first_loss"]
    rows = {row["id"]: row["metrics"] for row in run["board"]["rows"]}
    assert rows.pop("base")["heldout.margin"]["value"] == 0
    for metrics in rows.values():
        assert metrics["heldout.margin"]["value"] > 0


def test_the_board_is_printed_and_honest(run: dict[str, Any]) -> None:
    assert "not calibrated" in run["output"]
    for row in run["board"]["rows"]:
        assert row["id"] in run["output"]
        assert row["metrics"]["alpaca_eval.win_rate"]["value"] is not None
        for metric in row["metrics"].values():
            assert metric["n_invalid"] == 0
        # A category is one question here, and counts are counts: neither has an interval.
        for name in (
            "alpaca_eval.win_rate",
            "alpaca_eval.avg_length",
            "mt_bench.score",
            "mt_bench.turn_1",
            "mt_bench.turn_2",
            "heldout.pair_accuracy",
            "heldout.margin",
        ):
            metric = row["metrics"][name]
            assert metric["n"] >= 8
            # The untrained policy against itself, and its accuracy on held-out pairs, are constants by definition.
            if row["id"] != "base" or not name.endswith(("win_rate", "pair_accuracy")):
                assert metric["ci95"][0] <= metric["value"] <= metric["ci95"][1]
