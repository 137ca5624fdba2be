"""A sweep on the tiny model: planned, run in process and on a cluster of two nodes, one of which is killed."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import two_nodes
from tests.e2e.test_run import ROOT
from tests.fake_server import FakeServer, completion
from tests.forked import harness

pytestmark = pytest.mark.slow

RECIPE = """\
name: study
seed: 3
policy: {{model: {model}, dtype: float32}}
data:
  seeds: [{{name: builtin}}]
  holdout: 0.2
  prompts: {{generator: {{name: hf, model: {model}, dtype: float32}}, count: 4, max_new_tokens: 64, max_attempts: 40}}
  responses: {{generator: {{name: hf, model: {model}, dtype: float32}}, n: 3, max_new_tokens: 12}}
  reward: {{name: length}}
  report: false
methods:
  - {{id: dpo-adjacent, loss: {{name: dpo_adjacent, beta: 0.1}}}}
  - {{id: multi-dpo, loss: {{name: mdpo_linear, beta: 0.1}}}}
training: {{epochs: 1, learning_rate: 1.0e-2, max_prompt_length: 256, max_length: 512, lora: {{r: 4}}}}
evaluation:
  judge: {{name: local, model: {model}, dtype: float32}}
  answers: {{max_new_tokens: 12}}
  benchmarks:
    - {{name: alpaca_eval, prompts: builtin, reference: base, limit: 6}}
    - {{name: mt_bench, questions: builtin, limit: 8}}
sweep:
  grid:
    data.responses.n: [2, 3]
    data.seeds:
      some: [{{name: builtin, limit: 32}}]
      all: [{{name: builtin}}]
"""
CELLS = ("n-2.seeds-some", "n-2.seeds-all", "n-3.seeds-some", "n-3.seeds-all")


class Study:
    """The sweep's recipe, and a finished run of it in process."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.recipe = folder / "study.yaml"
        self.recipe.write_text(RECIPE.format(model=model))
        started = time.monotonic()
        self.done = self.run("straight")
        self.seconds = time.monotonic() - started
        self._alone: dict[str, float] = {}

    def alone(self, cell: str) -> float:
        """Run a cell by itself, once; returns the seconds that it took."""
        if cell not in self._alone:
            started = time.monotonic()
            assert self.run(cell, "--cell", cell).returncode == 0
            self._alone[cell] = time.monotonic() - started
        return self._alone[cell]

    def run(self, name: str, *more: str) -> subprocess.CompletedProcess[str]:
        (self.folder / name).mkdir(exist_ok=True)
        return harness("run", str(self.recipe), *more, home=self.folder / name / "home", cwd=self.folder / name)

    def board(self, name: str) -> dict[str, Any]:
        """What a run has found: everything but who made it and where."""
        folder = self.folder / name / "leaderboards" / "study"
        entries = [json.loads(path.read_text()) for path in sorted((folder / "entries").glob("*.json"))]
        for entry in entries:
            entry["provenance"].pop("made_by")
        return {"entries": entries, "board.md": (folder / "board.md").read_text()}

    def sampled(self, name: str) -> dict[str, int]:
        """Tokens by sample that a run has generated for its data, by the sample's key."""
        found = {}
        for path in (self.folder / name / "home" / "store" / "journals" / "samples").glob("*.jsonl"):
            for line in path.read_text().splitlines():
                row = json.loads(line)
                assert row["key"] not in found
                found[row["key"]] = row["sample"]["tokens"]
        return found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, wordy_tiny_model: Path) -> Study:
    made = Study(tmp_path_factory.mktemp("study"), wordy_tiny_model)
    assert made.done.returncode == 0, made.done.stderr
    return made


def test_the_board_has_every_row_and_what_was_varied(study: Study) -> None:
    board = study.board("straight")
    rows = {entry["id"] for entry in board["entries"]}
    assert rows == {"base", *(f"{m}.{cell}" for m in ("dpo-adjacent", "multi-dpo") for cell in CELLS)}
    for title in ("### n (data.responses.n)", "### seeds (data.seeds)", "### method", "### Multi-DPO against"):
        assert title in board["board.md"]
    page = (study.folder / "straight" / "leaderboards" / "study" / "index.html").read_text()
    assert "What was varied" in page
    assert "n: difference against 2" in page


def test_as_many_tokens_as_the_largest_n_alone(study: Study) -> None:
    alone: dict[str, int] = {}
    for cell in ("n-3.seeds-some", "n-3.seeds-all"):
        done = study.run(f"data-{cell}", "--cell", cell, "--set", "methods=[]", "--set", "evaluation=null")
        assert done.returncode == 0, done.stderr
        alone |= study.sampled(f"data-{cell}")
    assert study.sampled("straight") == alone


@pytest.mark.soak
def test_what_plan_says_is_saved_is_saved(study: Study) -> None:
    planned = harness("plan", str(study.recipe), home=study.folder / "none", cwd=study.folder).stdout
    text = " ".join(planned.split())
    less, fewer = (int(x) / 100 for x in re.findall(r"(\d+)%", text)[-2:])
    seconds = sum(study.alone(cell) for cell in CELLS)
    assert 1 - less == pytest.approx(study.seconds / seconds, rel=0.25)  # 20 % on a quiet machine
    tokens = {name: generated(study.folder / name) for name in ("straight", *CELLS)}
    together = tokens.pop("straight")
    assert 1 - fewer == pytest.approx(together / sum(tokens.values()), rel=0.2)


def generated(folder: Path) -> int:
    """All tokens that a run has generated: for its data, and answers."""
    total = 0
    for path in (folder / "home" / "store" / "journals" / "samples").glob("*.jsonl"):
        total += sum(json.loads(line)["sample"]["tokens"] for line in path.read_text().splitlines())
    for path in (folder / "home" / "store" / "artifacts").glob("*/artifact.json"):
        record = json.loads(path.read_text())
        total += record["report"]["tokens"] if record["stage"] == "answers" else 0
    return total


@pytest.mark.parametrize(("name", "kill"), [("killed", True), pytest.param("cluster", False, marks=pytest.mark.soak)])
def test_a_cluster_gives_the_same_board_also_when_one_of_its_two_nodes_is_killed(
    name: str, kill: bool, study: Study
) -> None:
    home = study.folder / name / "home"
    with two_nodes(home) as cluster:
        (study.folder / name).mkdir(exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.cli", "run", str(study.recipe), "--ray", cluster.address],
            cwd=study.folder / name,
            env={**os.environ, "HARNESS_HOME": str(home), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if kill:
            deadline = time.monotonic() + 120
            while len(list((home / "store" / "artifacts").glob("*/artifact.json"))) < 30:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            cluster.kill_second_node()
        out, err = process.communicate(timeout=280)
        assert process.returncode == 0, err
    assert study.board(name) == study.board("straight")
    assert study.sampled(name) == study.sampled("straight")
    found = int(re.findall(r"(\d+) found in the store", out)[0])
    # The second node runs one stage at a time. If it dies between storing and saying so, that one is found.
    assert found <= (1 if kill else 0), out


@pytest.mark.soak
def test_two_drivers_compute_no_stage_twice(study: Study) -> None:
    name = "both"
    (study.folder / name).mkdir()
    command = [sys.executable, "-m", "harness.cli", "run", str(study.recipe), "--leaderboards"]
    environment = {**os.environ, "HARNESS_HOME": str(study.folder / name / "home"), "PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.Popen([*command, board], cwd=study.folder / name, env=environment, stdout=subprocess.PIPE, text=True)
        for board in ("leaderboards", "others")
    ]
    outs = [run.communicate(timeout=280)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    ran = [int(x) for out in outs for x in re.findall(r"(\d+) stages run", out)]
    stages = len(list((study.folder / name / "home" / "store" / "artifacts").glob("*/artifact.json")))
    assert sum(ran) == stages
    assert study.board(name) == study.board("straight")
    assert study.sampled(name) == study.sampled("straight")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--ray", "127.0.0.1:1"), "--ray 127.0.0.1:1: no Ray cluster to connect to"),
        (("--ray", "nowhere"), "expected HOST:PORT, auto or local"),
        (
            ("--ray", "local", "--set", "runtime.resources={train: {gpus: 2}}"),
            "runtime.resources.train: no node has 1 CPUs, 2 GPUs",
        ),
        (
            ("--set", "runtime.resources={trian: {gpus: 2}}"),
            "unknown kind of stage 'trian'; did you mean 'train'?",
        ),
        (("--set", "runtime.resources={train: {memory: lots}}"), "expected an amount of memory like 24 GiB or 500 MB"),
    ],
)
def test_what_a_cluster_can_t_do_is_said_in_a_line(more: tuple[str, ...], told: str, study: Study) -> None:
    done = study.run("refused", *more)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.soak
def test_an_error_on_the_cluster_is_that_of_a_run_in_process(study: Study) -> None:
    broken = ("--set", "data.prompts.min_words=399", "--set", "data.prompts.max_attempts=1")
    here, there = study.run("wrong-here", *broken), study.run("wrong-there", *broken, "--ray", "local")
    assert (here.returncode, there.returncode) == (2, 2)
    assert "none of" in here.stderr
    assert there.stderr == here.stderr


@pytest.mark.soak
def test_what_judges_cost_on_a_cluster_is_what_they_cost_in_process(study: Study) -> None:
    """Counted by the driver from what its workers say, and no reply is asked for twice."""
    told, asked = [], []
    for name, more in (("paid-here", ()), ("paid-there", ("--ray", "local"))):
        with FakeServer(lambda body: completion("Rating: [[7]]", {"m": -0.1, "M": -2.5})).running() as server:
            judge = f"{{name: openai, model: m, base_url: '{server.url}', price: {{input: 1, output: 1000}}}}"
            done = study.run(name, "--set", f"evaluation.judge={judge}", "--max-cost", "50", *more)
            assert done.returncode == 0, done.stderr
            told += [" ".join(line.split()) for line in done.stdout.splitlines() if line.startswith("Judging:")]
            asked.append(sorted(json.dumps(body, sort_keys=True) for body in server.requests))
    assert "$" in told[0]
    assert told[0] == told[1]
    assert asked[0] == asked[1]
    assert len(set(asked[0])) == len(asked[0])
