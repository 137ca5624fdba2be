"""Three checkpoints of two methods in two rounds, through the command line: the second round's responses are the first
one's policy's, and killed runs resume with the same board.

Twenty kills: pytest -n 0 -m soak tests/rounds
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.models.chat import encode_prompt
from harness.models.load import load_tokenizer
from harness.types import Message
from tests.forked import harness
from tests.training.runs import loaded_outside

ROOT = Path(__file__).parents[2]
MARKER = "zz"
METHODS = ("dpo", "multi")
TOKENS = 4

RECIPE = """\
name: rounds
seed: 3
policy: {{model: {model}, dtype: float32}}
data:
  seeds: [{{name: jsonl, path: pairs.jsonl}}]
  holdout: 4
  responses:
    {{generator: {{name: hf, model: {model}, dtype: float32}}, n: 3, max_new_tokens: {tokens}, temperature: 1.0e-3}}
  reward: {{name: gold, begins: {marker}}}
  report: false
methods:
  - {{id: dpo, loss: {{name: dpo_best_worst, beta: 0.1, nll_alpha: 1.0}}}}
  - {{id: multi, loss: {{name: mdpo_linear, beta: 0.1, nll_alpha: 1.0}}}}
training: {{epochs: 6, learning_rate: 3.0e-2, max_prompt_length: 256, max_length: 512, lora: {{r: 4}}}}
rounds: {{count: 2, replay: 0.25}}
evaluation:
  judge: {{name: local, model: {model}, dtype: float32}}
  answers: {{max_new_tokens: 2}}
  checkpoints: [0.25, 0.5, 1.0]
  benchmarks: [{{name: alpaca_eval, prompts: builtin, reference: base, limit: 2}}]
"""


class Run:
    """A recipe in a folder, with a store of its own."""

    def __init__(self, folder: Path, model: Path) -> None:
        seeds = (ROOT / "harness" / "assets" / "seeds.jsonl").read_text().splitlines()[:20]
        pairs = [{"prompt": json.loads(line)["prompt"], "chosen": MARKER * 4, "rejected": "no"} for line in seeds]
        (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        (folder / "rounds.yaml").write_text(RECIPE.format(model=model, marker=MARKER, tokens=TOKENS))
        self.folder, self.model, self.home = folder, model, folder / "home"

    def start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "HARNESS_HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "harness.cli", "run", "rounds.yaml"]
        quiet: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=environment, **quiet)

    def finish(self) -> None:
        done = harness("run", "rounds.yaml", home=self.home, cwd=self.folder)
        assert done.returncode == 0, done.stderr

    def kill_after(self, stages: int) -> bool:
        """Kill a run once so many stages are done; False if it ended before."""
        process, limit = self.start(), time.monotonic() + 600
        while process.poll() is None and self.stages < stages and time.monotonic() < limit:
            time.sleep(0.05)
        ended = process.poll() is not None
        if not ended:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        return not ended

    @property
    def stages(self) -> int:
        return len(list((self.home / "store" / "artifacts").glob("*/artifact.json")))

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        board = json.loads((self.folder / "leaderboards" / "rounds" / "board.json").read_text())
        return {row["id"]: row for row in board["rows"]}

    @property
    def figures(self) -> dict[str, Any]:
        return {name: row["metrics"] for name, row in self.rows.items()}

    def artifact(self, row: str, stage: str) -> Path:
        key: str = self.rows[row]["provenance"]["keys"][stage]
        return self.home / "store" / "artifacts" / key

    def sampled(self, row: str, stage: str) -> Iterator[tuple[tuple[Message, ...], str]]:
        """(prompt, text) of the responses to training prompts that were sampled rather than the seed's."""
        for line in (self.artifact(row, stage) / "responses.jsonl").read_text().split("\n"):
            group: dict[str, Any] = json.loads(line) if line else {"split": ""}
            if group["split"] == "train":
                messages = tuple(Message.model_validate(message) for message in group["messages"])
                yield from ((messages, r["text"]) for r in group["responses"] if r["finish_reason"])


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, wordy_tiny_model: Path) -> Run:
    run = Run(tmp_path_factory.mktemp("straight"), wordy_tiny_model)
    run.finish()
    return run


@pytest.mark.slow
def test_each_round_samples_from_the_policy_of_the_last(straight: Run) -> None:
    parts = product(METHODS, ("", ".round-2"), ("", ".at-0.25", ".at-0.5"))
    rows = ["".join(part) for part in parts]
    assert list(straight.rows) == ["base", *rows]
    assert not any(MARKER in text for _, text in straight.sampled("dpo", "responses"))
    tokenizer = load_tokenizer(str(straight.model))
    for method in METHODS:
        checkpoint = straight.artifact(method, f"train/{method}") / "checkpoint"
        policy = loaded_outside(checkpoint, straight.model)
        found = list(straight.sampled(f"{method}.round-2", f"responses/{method}.round-2"))
        assert len(found) == 16
        assert all(MARKER in text for _, text in found)
        for messages, text in found:
            prompt = torch.tensor([encode_prompt(tokenizer, messages)])
            written = policy.generate(input_ids=prompt, do_sample=False, max_new_tokens=TOKENS)[0, prompt.shape[1] :]
            assert text == tokenizer.decode(written, skip_special_tokens=True)


@pytest.mark.slow
def test_the_last_rounds_are_compared_and_the_curves_go_through_all(straight: Run) -> None:
    folder = straight.folder / "leaderboards" / "rounds"
    board = json.loads((folder / "board.json").read_text())
    pairs = [pair for of_metric in board["comparisons"].values() for pair in of_metric]
    compared = {pair[end] for pair in pairs for end in ("first", "second")}
    assert compared == {"base", "dpo.round-2", "multi.round-2"}
    section = (folder / "board.md").read_text().split("## Learning curves")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:4]] for line in section.splitlines() if line.startswith("| ")]
    # Twelve steps of 16 prompts in six epochs; then 21 prompts, 16 of them its own.
    steps = [("–", 0), *(("1", n) for n in (3, 6, 12)), *(("2", 12 + n) for n in (4, 9, 18))]
    expected = [[f"{method}.round-2", number, str(n)] for method in METHODS for number, n in steps]
    assert cells[2:] == expected  # after the heads and the rule below them
    assert "over training" in (folder / "index.html").read_text()


@pytest.mark.parametrize("kills", [pytest.param(2, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.soak)])
def test_killed_runs_have_the_same_board(straight: Run, tmp_path: Path, kills: int) -> None:
    run, rng = Run(tmp_path, straight.model), random.Random(kills)
    wanted = sorted(rng.sample(range(5, straight.stages - 3), kills))
    assert all(run.kill_after(stages) for stages in wanted)
    run.finish()
    assert run.figures == straight.figures
    for path in (run.home / "store" / "journals").rglob("*.jsonl"):
        keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
        assert len(keys) == len(set(keys)), path
