"""Whole runs whose prompts, responses, scores and verdicts come from an engine that the run starts and stops."""

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.engine import interrupts
from harness.engine.engines import starts
from harness.engine.stage import Stage
from harness.errors import HarnessError, RecipeError
from harness.recipe.load import load_recipe, recipe_dict
from harness.servers.credentials import NO_KEY
from harness.serving.engine import Engine, Named
from tests.serving.test_pool import STUB


class Stub:
    """A recipe with an engine, and what that was asked."""

    def __init__(self, folder: Path, model: Path, *words: str, **engine: Any) -> None:
        self.folder, self.log = folder, folder / "stub.log"
        command = [sys.executable, STUB, "{port}", *words]
        described = {"name": "command", "command": command, "environment": {"STUB_LOG": str(self.log)}, **engine}
        asked = {"name": "openai", "model": "tiny", "engine": "stub"}
        self.recipe: dict[str, Any] = {
            "name": "served",
            "policy": {"model": str(model), "dtype": "float32"},
            "data": {
                "seeds": [{"name": "builtin", "limit": 8}],
                "holdout": 0.25,
                "report": False,
                "prompts": {"generator": asked, "count": 6},
                "responses": {"generator": asked, "n": 3},
                "reward": {"name": "api", "model": "tiny", "engine": "stub"},
            },
            "evaluation": {
                "judge": asked,
                "answers": {"max_new_tokens": 4},
                "benchmarks": [
                    {"name": "alpaca_eval", "prompts": "builtin", "reference": "file", "limit": 8},
                    {"name": "mt_bench", "questions": "builtin", "limit": 2},
                ],
            },
            "runtime": {"engines": {"stub": described}},
        }

    def run(self) -> harness.Run:
        boards, store = self.folder / "boards", self.folder / "store"
        return harness.run(self.recipe, leaderboards=boards, store=store)

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def is_gone(self) -> bool:
        processes = {call["process"] for call in self.calls}
        return not any(os.path.exists(f"/proc/{process}") for process in processes)


def test_a_run_on_two_replicas_of_which_one_dies(tmp_path: Path, tiny_model: Path) -> None:
    stub = Stub(tmp_path, tiny_model, "0", "dies", replicas=2)
    done = stub.run()

    assert (tmp_path / "stub.log.died").exists()
    processes = Counter(call["process"] for call in stub.calls)
    assert len(processes) == 5, "two, one for the dead one, and two after the policy's answers, which need the memory"
    assert sorted(processes.values())[-2] >= 10, "they share the calls"
    assert {call["key"] for call in stub.calls} == {f"Bearer {NO_KEY}"}
    assert {call["path"] for call in stub.calls} == {"/v1/chat/completions", "/classify"}
    told = [json.dumps({k: v for k, v in c.items() if k not in ("process", "key")}, sort_keys=True) for c in stub.calls]
    assert {text: n for text, n in Counter(told).items() if n > 1} == {}, "nothing is asked twice"
    examples = done.datasets[""].examples()
    assert all(len(example.responses) == 3 for example in examples)
    assert all(response.score == len(response.text) for example in examples for response in example.responses)
    assert done.rows["base"].metrics["alpaca_eval.win_rate"].n == 8
    assert done.rows["base"].metrics["mt_bench.score"].value == 7
    assert stub.is_gone(), "the engine ends with the run"
    assert len(list((tmp_path / "store" / "logs" / "engines").glob("command-*.log"))) == 2

    board = (tmp_path / "boards" / "served" / "board.json").read_text()
    assert '"engine": "stub"' in board
    assert str(tmp_path) not in board.replace(json.dumps(str(tiny_model)), "")
    asked = len(stub.calls)
    assert stub.run().ran == 0
    assert len(stub.calls) == asked


def test_an_engine_that_does_not_start_is_one_line_with_its_log(tmp_path: Path, tiny_model: Path) -> None:
    stub = Stub(tmp_path, tiny_model, "0", "fails")
    with pytest.raises(HarnessError) as caught:
        stub.run()
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.startswith("generator 'openai', engine stub: engine command")
    assert "RuntimeError: out of memory on device 0" in text
    log = next((tmp_path / "store" / "logs" / "engines").glob("command-*.log"))
    assert str(log) in text


def test_ctrl_c_stops_a_start(tmp_path: Path, tiny_model: Path) -> None:
    stub = Stub(tmp_path, tiny_model, "60")

    def interrupt_the_start() -> None:
        while not list(tmp_path.glob("store/logs/engines/*.log")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    began = time.monotonic()
    threading.Thread(target=interrupt_the_start, daemon=True).start()
    with pytest.raises(KeyboardInterrupt), interrupts.gently(lambda text: None):
        stub.run()
    assert time.monotonic() - began < 15


def test_an_engine_runs_from_the_first_stage_that_needs_it_until_one_that_loads_a_model() -> None:
    def stage(name: str, *engines: Named) -> Stage:
        return Stage(name, name, 1, {}, {}, lambda ctx: {}, engines=engines)

    one, other = (Named(name, Engine(model=f"org/{name}")) for name in ("one", "other"))
    run = [stage("prompts", one), stage("seeds"), stage("responses", one), stage("train"), stage("verdicts", one)]
    assert [(s.engine.name, s.stage.name) for s in starts(run)] == [("one", "prompts"), ("one", "verdicts")]
    run = [stage("prompts", one), stage("responses", other), stage("verdicts", one, other)]
    assert [(s.engine.name, s.stage.name) for s in starts(run)] == [
        ("one", "prompts"),
        ("other", "responses"),
        ("one", "verdicts"),
    ]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            {"data.responses.generator": {"name": "openai", "engine": "stbu"}},
            r"generator.engine: no engine 'stbu' in runtime.engines; did you mean 'stub'\? engines: stub",
        ),
        (
            {
                "evaluation.judge": {
                    "name": "openai",
                    "model": "m",
                    "engine": "stub",
                    "base_url": "http://127.0.0.1:1/v1",
                }
            },
            r"base_url: an engine has its own address: leave out base_url, or engine",
        ),
        ({"data.responses.generator": {"name": "openai", "engine": "stub"}}, r"model: missing"),
        ({"data.reward": {"name": "api", "model": "m"}}, r"data.reward.base_url: missing"),
        ({"runtime.engines.stub": {"name": "vllm"}}, r"runtime.engines.stub: vllm needs `model`"),
        (
            {"runtime.engines.stub": {"model": "a/b", "python": sys.executable}},
            r"runtime.engines.stub.*: .* has no package vllm; set `python`",
        ),
        (
            {"runtime.engines.stub": {"model": "a/b", "python": "/nowhere/python"}},
            r"runtime.engines.stub.python: /nowhere/python: no such file; set `python`",
        ),
        (
            {"evaluation.judge": {"name": "openai", "model": "m", "engine": "stub", "mode": "batch"}},
            r"evaluation.judge: mode: batch is for a vendor",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, tiny_model: Path, edit: dict[str, Any], message: str) -> None:
    stub = Stub(tmp_path, tiny_model)
    for field, value in edit.items():
        *outer, last = field.split(".")
        part = stub.recipe
        for name in outer:
            part = part[name]
        part[last] = value
    path = tmp_path / "x.yaml"
    path.write_text(json.dumps(stub.recipe))
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_component_is_who_its_engine_serves(tmp_path: Path, tiny_model: Path) -> None:
    stub = Stub(tmp_path, tiny_model)
    generator = {"name": "openai", "engine": "stub"}
    stub.recipe["data"]["responses"]["generator"] = generator
    stub.recipe["runtime"]["engines"]["stub"] = {"model": "org/model", "replicas": 2}
    path = tmp_path / "x.yaml"

    def identity() -> dict[str, Any]:
        path.write_text(json.dumps(stub.recipe))
        recipe = load_recipe(path, check=False)
        assert recipe.data
        assert recipe.data.responses
        assert recipe.data.responses.generator
        assert recipe_dict(recipe)["data"]["responses"]["generator"]["engine"] == "stub"
        return recipe.data.responses.generator.identity()

    assert identity() == {"name": "openai", "model": "org/model"}
    stub.recipe["runtime"]["engines"]["stub"] = {"model": "org/model", "options": {"max_model_len": 99}}
    assert identity() == {"name": "openai", "model": "org/model"}
    stub.recipe["runtime"]["engines"]["stub"] = {"model": str(tiny_model)}
    local = identity()
    assert local["model"] == tiny_model.name
    assert local["weights"]
    assert str(tiny_model) not in json.dumps(local)
