"""A whole recipe on a real vLLM that the harness starts: prompts, responses, a pooled reward model, answers of the base
and of two adapters, and a judge with log-probabilities. Run by hand, in an environment of its own that is made on first
use: `pytest -n 0 -s -m soak tests/engines`, with $VLLM_PYTHON for one that is there already. $SOAK_PROMPTS: 32."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.children.watch import descendants
from harness.files import cache_root
from harness.serving.pool import _pools
from harness.serving.replica import Replica
from harness.types import Answer
from tests.engines.environment import vllm_python
from tests.perf._shared import ROOT
from tests.tiny import tiny_classifier

pytestmark = pytest.mark.soak

MODEL = "smollm2-135m-instruct"
PROMPTS, TOKENS = int(os.environ.get("SOAK_PROMPTS", "32")), 64
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "2"}


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> str:
    """The Python of vLLM's environment; built-in models are taken from the user's cache."""
    home = cache_root()
    with monkeypatch.context() as users:
        users.delenv("HARNESS_HOME", raising=False)
        models, found = cache_root() / "models", vllm_python(cache_root())
    if models.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        (home / "models").symlink_to(models)
    return found


def recipe(python: str, classifier: Path, *, served: bool) -> dict[str, Any]:
    """Everything but training by vLLM; or the answers in process, from the same store."""
    options = {"enforce_eager": True, "max_model_len": 2048, "dtype": "float32"}
    big = {"model": MODEL, "python": python, "options": options, "environment": ENVIRONMENT}
    rewards = {**big, "model": str(classifier), "options": {**options, "max_model_len": 1024}}
    asked = {"name": "openai", "engine": "big", "timeout": 1200}
    data: dict[str, Any] = {"seeds": [{"name": "builtin", "limit": 16}], "holdout": 0.25}
    data["report"] = {"generator": asked, "embeddings": None, "max_texts": 8}
    data["prompts"] = {"generator": asked, "count": 4}
    data["responses"] = {"generator": asked, "n": 3, "max_new_tokens": 24}
    data["reward"] = {"name": "api", "engine": "rewards", "format": "pooling", "max_length": 512}
    answers = {"temperature": 0, "max_new_tokens": TOKENS} | ({"generator": asked} if served else {})
    lora = {"r": 4}
    training = {"learning_rate": 1e-3, "max_prompt_length": 128, "max_length": 256, "lora": lora, "reference": asked}
    return {
        "name": "served" if served else "in-process",
        "policy": {"model": MODEL, "dtype": "float32"},
        "data": data,
        "methods": [
            {"id": "dpo", "loss": {"name": "dpo_best_worst", "beta": 0.1}},
            {"id": "multi-dpo", "loss": {"name": "mdpo_linear", "beta": 0.1}, "training": {"learning_rate": 4e-3}},
        ],
        "training": training,
        "evaluation": {
            "judge": asked,
            "answers": answers,
            "benchmarks": [{"name": "alpaca_eval", "prompts": "builtin", "reference": "base", "limit": PROMPTS}],
        },
        "runtime": {"engines": {"big": big, "rewards": rewards}},
    }


def answers_of(run: harness.Run) -> dict[str, list[str]]:
    """The texts of each row, and how long they took."""
    texts = {}
    for row in run.completed.plan.plans[0].rows:
        artifact = run.completed.executed.artifacts[row.answers["alpaca_eval"].key]
        texts[row.id] = [answer.turns[0] for answer in artifact.rows("answers.jsonl", Answer)]
        print(json.dumps({"row": row.id, "seconds": artifact.record.seconds, **artifact.report}))
    return texts


def killed_in_the_middle(made: dict[str, Any], folder: Path) -> None:
    """Run it in a process that is killed once the first responses are there."""
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(made))
    command = [sys.executable, "-m", "harness.cli", "run", str(path), "--leaderboards", str(folder / "boards")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*command, "--store", str(folder / "store")], env=environment, cwd=folder) as process:
        while process.poll() is None and not any((folder / "store").rglob("samples-*.jsonl")):
            time.sleep(0.2)
        time.sleep(2)
        engines = set(descendants(process.pid))
        assert process.poll() is None, "it has ended before it could be killed"
        process.kill()
    deadline = time.monotonic() + 60
    while left := [one for one in engines if os.path.exists(f"/proc/{one}")]:
        assert time.monotonic() < deadline, f"{left} outlive the run that started them"
        time.sleep(0.2)


def kill_the_engine_of_answers(seconds: float) -> None:
    """Once, so many seconds after it is ready."""
    while not (ready := [r for pool in [*_pools.values()] for r in pool.replicas if r.is_ready and is_of_answers(r)]):
        time.sleep(0.1)
    time.sleep(seconds)
    assert ready[0]._process
    os.kill(min(descendants(ready[0]._process.pid)), signal.SIGKILL)


def is_of_answers(replica: Replica) -> bool:
    return "enable_lora" in replica.engine.options


def test_a_recipe_whose_run_and_whose_engine_are_killed(tmp_path: Path, python: str) -> None:
    """Greedy float32 answers of the base and two adapters are those of this process."""
    classifier = tiny_classifier(tmp_path / "classifier")
    made = recipe(python, classifier, served=True)
    killed_in_the_middle(made, tmp_path)
    threading.Thread(target=kill_the_engine_of_answers, args=(1.5,), daemon=True).start()
    rows = {}
    for served in (True, False):
        began = time.monotonic()
        made = recipe(python, classifier, served=served)
        run = harness.run(made, leaderboards=tmp_path / "boards", store=tmp_path / "store")
        rows[served] = answers_of(run)
        win_rates = {name: str(row.metrics.get("alpaca_eval.win_rate")) for name, row in run.rows.items()}
        seconds = round(time.monotonic() - began, 1)
        print(json.dumps({"served": served, "seconds": seconds, "ran": run.ran, "win rates": win_rates}))
    assert [*rows[True]] == ["base", "dpo", "multi-dpo"]
    assert rows[True] == rows[False]
    assert len({tuple(texts) for texts in rows[True].values()}) == 3, "each is the row's own adapter"
    logs = {path: path.read_text() for path in (tmp_path / "store" / "logs" / "engines").glob("vllm-*.log")}
    of_answers = [text for text in logs.values() if "--enable-lora" in text]
    assert max(text.count("$ ") for text in of_answers) == 2, "started again once"
    board = (tmp_path / "boards" / "served" / "board.json").read_text()
    assert "served by vllm" in board
