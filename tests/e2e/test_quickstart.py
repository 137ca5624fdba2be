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
    assert run["gigabytes"] < 4


def test_every_method_learns_what_its_seed_prefers(run: dict[str, Any]) -> None:
    trained = [r["report"] for r in run["records"] if r["stage"] == "train"]
    assert len(trained) == 2
    for report in trained:
        assert report["last_loss"] < report["first_loss"]
    rows = {row["id"]: row["metrics"] for row in run["board"]["rows"]}
    base = rows.pop("base")
    assert base["heldout.margin"]["value"] == 0
    for metrics in rows.values():
        assert metrics["heldout.margin"]["ci95"][0] > 0
        assert metrics["alpaca_eval.win_rate"]["ci95"][0] > 50
        assert metrics["gold_reward.score"]["value"] > base["gold_reward.score"]["value"]
        assert metrics["alpaca_eval.truncated"]["value"] < base["alpaca_eval.truncated"]["value"]  # most answers end


def test_the_board_is_printed_and_says_what_its_judge_is(run: dict[str, Any]) -> None:
    output = " ".join(run["output"].split())
    assert "a rule, exact by definition: 5 to 25 words, 1 sentence" in output
    assert "dpo significantly better" in output
    for row in run["board"]["rows"]:
        assert row["id"] in output
        for metric in row["metrics"].values():
            assert metric["n_invalid"] == 0
        for name, prompts in {"alpaca_eval.win_rate": 32, "gold_reward.score": 32, "heldout.margin": 12}.items():
            metric = row["metrics"][name]
            assert metric["n"] >= prompts
            # The untrained policy against itself is a constant by definition.
            if row["id"] != "base" or name == "gold_reward.score":
                assert metric["ci95"][0] <= metric["value"] <= metric["ci95"][1]
