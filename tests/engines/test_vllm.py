"""A real vLLM, started by the harness: $VLLM_PYTHON is the Python of an environment that has it. Run by hand:
`VLLM_PYTHON=/opt/vllm/bin/python pytest -n 0 -s -m soak tests/engines`."""

import json
import os
import signal
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

pytestmark = pytest.mark.soak

MODEL = "smollm2-135m-instruct"
TOKENS = 64


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> str:
    """The Python of vLLM's environment; built-in models are taken from the user's cache."""
    found = os.environ.get("VLLM_PYTHON", "")
    if not os.path.isfile(found):
        pytest.skip("VLLM_PYTHON doesn't name the Python of an environment that has vLLM")
    home = cache_root()
    with monkeypatch.context() as users:
        users.delenv("HARNESS_HOME", raising=False)
        models = cache_root() / "models"
    if models.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        (home / "models").symlink_to(models)
    return found


def recipe(python: str, *, served: bool, prompts: int = 32) -> dict[str, Any]:
    engine = {
        "model": MODEL,
        "python": python,
        "options": {"enforce_eager": True, "max_model_len": 2048},
        "environment": {"VLLM_CPU_KVCACHE_SPACE": "2"},
    }
    asked = {"name": "openai", "engine": "big"}
    data: dict[str, Any] = {"seeds": [{"name": "builtin", "limit": 16}], "holdout": 0.25, "report": False}
    data["responses"] = {"generator": asked, "n": 3, "max_new_tokens": 24}
    data["reward"] = {"name": "length"}
    answers = {"temperature": 0, "max_new_tokens": TOKENS} | ({"generator": asked} if served else {})
    return {
        "name": "served" if served else "in-process",
        "policy": {"model": MODEL, "dtype": "float32"},
        "data": data,
        "methods": [{"id": "dpo", "loss": {"name": "dpo_best_worst", "beta": 0.1}}],
        "training": {"learning_rate": 1e-3, "max_prompt_length": 128, "max_length": 256, "lora": {"r": 4}},
        "evaluation": {
            "judge": {"name": "reward_model", "reward": {"name": "length"}},
            "answers": answers,
            "benchmarks": [{"name": "alpaca_eval", "prompts": "builtin", "reference": "base", "limit": prompts}],
        },
        "runtime": {"engines": {"big": engine}},
    }


def answers_of(run: harness.Run) -> dict[str, list[str]]:
    """The texts of each row, and how long they took."""
    texts = {}
    for row in run.completed.plan.plans[0].rows:
        artifact = run.completed.executed.artifacts[row.answers["alpaca_eval"].key]
        texts[row.id] = [answer.turns[0] for answer in artifact.rows("answers.jsonl", Answer)]
        print(json.dumps({"row": row.id, "seconds": artifact.record.seconds, **artifact.report}))
    return texts


def kill_once(seconds: float) -> None:
    """Kill the server of the answers so many seconds after it is ready."""
    while not (ready := [r for pool in [*_pools.values()] for r in pool.replicas if r.is_ready and is_of_answers(r)]):
        time.sleep(0.1)
    time.sleep(seconds)
    assert ready[0]._process
    os.kill(min(descendants(ready[0]._process.pid)), signal.SIGKILL)


def is_of_answers(replica: Replica) -> bool:
    return "enable_lora" in replica.engine.options


def test_greedy_answers_of_the_base_and_an_adapter_are_those_of_this_process(tmp_path: Path, python: str) -> None:
    """Also where the server is killed in the middle of them."""
    rows = {}
    for served in (True, False):
        if served:
            threading.Thread(target=kill_once, args=(1.5,), daemon=True).start()
        began = time.monotonic()
        run = harness.run(recipe(python, served=served), leaderboards=tmp_path / "boards", store=tmp_path / "store")
        rows[served] = answers_of(run)
        print(json.dumps({"served": served, "seconds": round(time.monotonic() - began, 1), "ran": run.ran}))
    assert rows[True]["base"] != rows[True]["dpo"]
    assert rows[True] == rows[False]
    logs = list((tmp_path / "store" / "logs" / "engines").glob("vllm-*.log"))
    assert max(log.read_text().count("$ ") for log in logs) == 2, "started again once"
