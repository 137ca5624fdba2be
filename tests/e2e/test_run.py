"""A whole run on a tiny random model, through the command line: board, resume, and what a change re-runs."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fake_server import FakeServer, completion
from tests.forked import harness
from tests.training.runs import loaded_outside

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

RECIPE = """\
name: tiny
seed: 3
policy: {{model: {model}, dtype: float32}}
data:
  seeds: [{{name: builtin}}]
  holdout: 0.2
  prompts: {{generator: {{name: hf, model: {model}, dtype: float32}}, count: 4, max_new_tokens: 64, max_attempts: 40}}
  responses: {{generator: {{name: hf, model: {model}, dtype: float32}}, n: 3, max_new_tokens: 12}}
  reward: {{name: trained, base: {model}, dtype: float32, epochs: 1}}
methods:
  - {{id: dpo, loss: {{name: dpo_best_worst, beta: 0.1}}}}
  - {{id: multi-dpo, loss: {{name: mdpo_linear, beta: 0.1}}}}
training: {{epochs: 1, learning_rate: 1.0e-3, max_prompt_length: 256, max_length: 512, lora: {{r: 4}}}}
evaluation:
  judge: {{name: local, model: {model}, dtype: float32}}
  answers: {{max_new_tokens: 12}}
  benchmarks:
    - {{name: alpaca_eval, prompts: builtin, reference: base, limit: 6}}
    - {{name: mt_bench, questions: builtin, limit: 8}}
"""


def board(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "leaderboards" / "tiny" / "board.json").read_text())


class Run:
    """A finished run in a folder of its own."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.recipe = folder / "tiny.yaml"
        self.recipe.write_text(RECIPE.format(model=model))
        self.first = self("run", str(self.recipe))

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return harness(*arguments, home=self.home, cwd=self.folder)

    @property
    def artifacts(self) -> dict[str, dict[str, Any]]:
        found = (self.home / "store" / "artifacts").glob("*/artifact.json")
        return {path.parent.name: json.loads(path.read_text()) for path in found}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, wordy_tiny_model: Path) -> Run:
    done = Run(tmp_path_factory.mktemp("run"), wordy_tiny_model)
    assert done.first.returncode == 0, done.first.stderr
    return done


def test_the_board_has_every_row_and_every_figure(run: Run) -> None:
    rows = {row["id"]: row for row in board(run.folder)["rows"]}
    assert list(rows) == ["base", "dpo", "multi-dpo"]
    wanted = {
        *(f"alpaca_eval.{m}" for m in ("win_rate", "lc_win_rate", "avg_length")),
        *(f"mt_bench.{m}" for m in ("score", "turn_1", "turn_2", "writing", "coding")),
        *(f"heldout.{m}" for m in ("pair_accuracy", "kendall_tau", "margin")),
    }
    for row in rows.values():
        assert wanted <= set(row["metrics"])
        for metric in row["metrics"].values():
            assert set(metric) == {"value", "stderr", "ci95", "n", "n_invalid"}
    assert rows["base"]["metrics"]["alpaca_eval.win_rate"]["value"] == 50
    assert rows["base"]["metrics"]["heldout.margin"]["value"] == 0
    assert rows["dpo"]["metrics"]["mt_bench.score"]["n"] == 8
    assert 1 <= rows["dpo"]["metrics"]["mt_bench.score"]["value"] <= 10
    folder = run.folder / "leaderboards" / "tiny"
    assert {p.name for p in (folder / "entries").iterdir()} == {"base.json", "dpo.json", "multi-dpo.json"}
    assert [line["id"] for line in csv.DictReader((folder / "board.csv").open())] == list(rows)
    assert "not calibrated" in (folder / "board.md").read_text()
    assert "reconstruction" in (folder / "board.md").read_text()
    assert "base" in run.first.stdout
    assert "ranked" in (folder / "run.log").read_text()


def test_no_board_file_names_a_path_of_this_machine(run: Run) -> None:
    folder = run.folder / "leaderboards" / "tiny"
    for path in (*folder.glob("board.*"), *folder.glob("entries/*")):
        assert str(run.folder) not in path.read_text()
        assert str(ROOT) not in path.read_text()


def test_all_files_of_the_store_and_the_board_have_the_rights_of_the_umask(run: Run) -> None:
    places = [*run.home.rglob("*"), *(run.folder / "leaderboards").rglob("*")]
    rights = {oct(path.lstat().st_mode) for path in places if path.is_file() and not path.is_symlink()}
    assert rights == {oct(run.recipe.stat().st_mode)}


def test_the_ranked_dataset_loads_with_datasets(run: Run) -> None:
    from datasets import load_dataset

    (folder,) = {(run.home / "store" / "artifacts" / key) for key, a in run.artifacts.items() if a["stage"] == "ranked"}
    rows = load_dataset("json", data_files=str(folder / "ranked.jsonl"), split="train", cache_dir=run.folder / "hf")
    assert len(rows) >= 50
    for row in rows:
        scores = [r["score"] for r in row["responses"]]
        assert scores == sorted(scores, reverse=True)
        assert row["messages"][-1]["role"] == "user"
    assert {r["source"].split(":")[0] for row in rows for r in row["responses"]} == {"seed", "hf"}


def test_checkpoints_load_in_transformers(run: Run) -> None:
    from transformers import AutoTokenizer

    folders = [
        run.home / "store" / "artifacts" / k / "checkpoint" for k, a in run.artifacts.items() if a["stage"] == "train"
    ]
    assert len(folders) == 2
    for folder in folders:
        base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        model = loaded_outside(folder, folder / base)
        ids = AutoTokenizer.from_pretrained(folder)("hello", return_tensors="pt")
        assert model(**ids).logits.shape[-1] == model.config.vocab_size


def test_a_second_run_executes_nothing_and_leaves_the_board_alone(run: Run) -> None:
    folder = run.folder / "leaderboards" / "tiny"
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "run.log"}
    started = time.monotonic()
    done = run("run", str(run.recipe))
    assert done.returncode == 0, done.stderr
    assert "0 stages run" in done.stdout
    assert time.monotonic() - started < 20
    assert {p: p.read_bytes() for p in before} == before


def test_only_the_changed_method_runs_again(run: Run) -> None:
    before = set(run.artifacts)
    done = run("run", str(run.recipe), "--set", "methods.1.loss.beta=0.5")
    assert done.returncode == 0, done.stderr
    new = [a["stage"] for key, a in run.artifacts.items() if key not in before]
    assert sorted(new) == ["answers", "answers", "heldout", "train", "verdicts", "verdicts"]
    assert run("run", str(run.recipe)).returncode == 0  # the board of the recipe as it stands


def test_plan_tells_what_is_there(run: Run) -> None:
    done = run("plan", str(run.recipe))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("in the store") == 25  # 8 of data, 2 trained, 3 x (held-out, 2 x (answers, verdicts))
    assert "to run" not in done.stdout
    fresh = harness("plan", str(run.recipe), home=run.folder / "elsewhere", cwd=run.folder)
    assert "in the store" not in fresh.stdout
    assert "train/multi-dpo" in fresh.stdout


def test_killed_and_resumed_gives_the_same_board(run: Run, tmp_path: Path) -> None:
    """SIGKILL twice in mid-run; what had finished is kept, and the board is the one of the run that was left alone."""
    home = tmp_path / "home"
    command = [sys.executable, "-m", "harness.cli", "run", str(run.recipe)]
    environment = {**os.environ, "HARNESS_HOME": str(home), "PYTHONPATH": str(ROOT)}
    for wanted in (3, 9):
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 200
        while len(list((home / "store" / "artifacts").glob("*/artifact.json"))) < wanted:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    kept = len(list((home / "store" / "artifacts").glob("*/artifact.json")))
    done = harness("run", str(run.recipe), home=home, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{kept} found in the store" in done.stdout
    ours, theirs = board(tmp_path)["rows"], board(run.folder)["rows"]
    assert [r["metrics"] for r in ours] == [r["metrics"] for r in theirs]
    assert (tmp_path / "leaderboards/tiny/board.md").read_text() == (
        run.folder / "leaderboards/tiny/board.md"
    ).read_text()


def test_a_judge_that_is_down_costs_nothing_and_is_asked_again(run: Run, tmp_path: Path) -> None:
    """A served judge fails in mid-run: the run stops with one line; the next one asks only for what is missing."""
    down = {"left": 9}

    def answer(body: dict[str, Any]) -> Any:
        down["left"] -= 1
        if down["left"] < 0:
            return 503, {"error": {"message": "overloaded"}}, {}
        return completion("Rating: [[7]]", {"m": -0.1, "M": -2.5})

    with FakeServer(answer).running() as server:
        judge = f"{{name: openai, model: m, base_url: '{server.url}', max_retries: 0}}"
        command = ["run", str(run.recipe), "--leaderboards", str(tmp_path), "--set", f"evaluation.judge={judge}"]
        done = run(*command)
        assert done.returncode == 2
        assert "run again" in done.stderr
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "tiny" / "board.json").exists()
        first = [json.dumps(body, sort_keys=True) for body in server.requests]
        down["left"] = 1000
        done = run(*command)
        assert done.returncode == 0, done.stderr
        second = [json.dumps(body, sort_keys=True) for body in server.requests[len(first) :]]
        assert len(second) == len(set(second))
        # Of the first run's requests the nine that were answered are not sent again, and only those.
        assert len(set(first) - set(second)) == 9
    rows = {r["id"]: r for r in json.loads((tmp_path / "tiny" / "board.json").read_text())["rows"]}
    assert rows["dpo"]["metrics"]["mt_bench.score"]["value"] == 7
    assert rows["dpo"]["metrics"]["mt_bench.score"]["n_invalid"] == 0
    assert rows["dpo"]["provenance"]["judge"]["model"] == "m"


def test_show_prints_the_board(run: Run) -> None:
    done = run("show", "leaderboards/tiny")
    assert done.returncode == 0, done.stderr
    for row in ("base", "dpo", "multi-dpo"):
        assert row in done.stdout
