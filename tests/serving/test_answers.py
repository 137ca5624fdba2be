"""Answers of the policy, and of adapters on it, by an engine that takes their token ids."""

import json
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from harness.benchmark import Benchmark
from harness.components import build
from harness.errors import RecipeError
from harness.models import chat
from harness.models.batching import Job
from harness.models.decode.elsewhere import Elsewhere
from harness.models.load import load_tokenizer
from harness.recipe.load import load_recipe
from harness.servers.adapting.continuing import Continuing
from harness.serving.engine import Engine, Named
from harness.serving.pool import stop_all
from harness.types import Answer, Message, Sampling
from tests.serving.test_pool import stub as engine
from tests.serving.test_runs import Stub

ANSWERS = {"generator": {"name": "openai", "engine": "stub", "model": "x"}, "max_new_tokens": 6}


def served(folder: Path, model: Path, **answers: Any) -> Stub:
    stub = Stub(folder, model, replicas=2)
    stub.recipe["evaluation"]["answers"] = {**ANSWERS, **answers}
    stub.recipe["evaluation"]["benchmarks"] = [{"name": "mt_bench", "questions": "builtin", "limit": 2}]
    del stub.recipe["data"]["prompts"], stub.recipe["data"]["responses"], stub.recipe["data"]["reward"]
    return stub


def test_the_engine_gets_the_tokens_that_the_policy_would(tmp_path: Path, tiny_model: Path) -> None:
    stub = served(tmp_path, tiny_model)
    done = stub.run()
    asked = {tuple(c["prompt"]): c for c in stub.calls if c["path"] == "/v1/completions"}
    tokenizer = load_tokenizer(str(tiny_model))
    stage = done.completed.plan.plans[0].rows[0].answers["mt_bench"]
    artifact = done.completed.executed.artifacts[stage.key]
    answers = {answer.question_id: answer for answer in artifact.rows("answers.jsonl", Answer)}
    benchmark = build("benchmark", {"name": "mt_bench", "questions": "builtin", "limit": 2})
    assert isinstance(benchmark, Benchmark)
    questions = benchmark.load_questions()
    for question in questions:
        messages = [Message(role="user", content=question.turns[0])]
        for turn, answer in enumerate(answers[question.id].turns):
            ids = chat.encode_prompt(tokenizer, messages)
            call = asked[tuple(ids)]
            assert answer == tokenizer.decode(ids[-3:], skip_special_tokens=True)
            assert call["max_tokens"] == 6
            assert call["stop_token_ids"] == [chat.end_of_turn(tokenizer)]
            messages += [Message(role="assistant", content=answer)]
            messages += [Message(role="user", content=text) for text in question.turns[turn + 1 : turn + 2]]
    assert len({call["seed"] for call in asked.values()}) == len(asked)
    assert artifact.report["answered_by"] == "served by command"
    assert artifact.report["tokens"] == 4 * 4
    # What an engine has written is no answer of this process's decoder, and the other way round.
    in_process = load_recipe_stage(stub, tmp_path, generator=None)
    assert in_process != stage.key


def load_recipe_stage(stub: Stub, folder: Path, **answers: Any) -> str:
    """The key of the answers to MT-bench in a recipe with other settings."""
    from harness.pipeline.plan import make_plan

    stub.recipe["evaluation"]["answers"].update(answers)
    (folder / "x.yaml").write_text(json.dumps(stub.recipe))
    return make_plan(load_recipe(folder / "x.yaml", check=False)).rows[0].answers["mt_bench"].key


def test_each_replica_is_given_an_adapter_once(tmp_path: Path, tiny_model: Path) -> None:
    log = tmp_path / "log"
    named = Named("e", engine(replicas=2, environment={"STUB_LOG": str(log)}))
    tokenizer = load_tokenizer(str(tiny_model))
    asked = build("generator", {"name": "openai", "model": "x", "engine": named})
    assert isinstance(asked, Continuing)
    adapter = asked.on(named, tmp_path / "adapter")
    jobs = [Job([5, 6, 7, i], Sampling(temperature=0, top_p=1, max_new_tokens=4)) for i in range(20)]
    arrived: list[Any] = []
    adapter.write(
        jobs,
        Elsewhere(str(tiny_model), None, tokenizer, None),
        seed=1,
        arrived=arrived.extend,
        then=lambda sampled: None,
        threads=8,
        look=lambda: None,
    )
    stop_all()
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    loads = [call for call in calls if call["path"] == "/v1/load_lora_adapter"]
    assert Counter(call["process"] for call in loads).most_common(1)[0][1] == 1
    assert {call["process"] for call in loads} == {call["process"] for call in calls}
    assert len(loads) == 2
    assert {call["lora_path"] for call in loads} == {str(tmp_path / "adapter")}
    assert {call["model"] for call in calls if "prompt" in call} == {call["lora_name"] for call in loads}
    assert sorted(sampled.request for sampled in arrived) == list(range(20))


@pytest.mark.slow
def test_whole_models_are_served_one_after_the_other(tmp_path: Path, tiny_model: Path) -> None:
    stub = served(tmp_path, tiny_model)
    stub.recipe["runtime"]["engines"]["stub"]["replicas"] = 1
    stub.recipe["data"]["seeds"] = [{"name": "builtin", "limit": 8}]
    stub.recipe["methods"] = [
        {"id": name, "loss": {"name": "dpo_best_worst", "beta": beta}} for name, beta in (("one", 0.1), ("two", 0.5))
    ]
    stub.recipe["training"] = {"lora": False, "max_prompt_length": 64, "max_length": 128}
    done = stub.run()
    models = [(call["model"], call["process"]) for call in stub.calls if call["path"] == "/v1/completions"]
    rows = [next(of_row) for of_row in (iter(group) for _, group in groupby(models))]
    assert len(rows) == len(set(rows)) == 3, "the base and two whole models, each of which has a server to itself"
    folders = {str(done.checkpoints[name].path) for name in ("one", "two")}
    assert {model for model, _ in rows} == {str(tiny_model), *folders}
    assert not [call for call in stub.calls if call["path"] == "/v1/load_lora_adapter"]
    assert stub.is_gone()


def test_one_engine_is_for_the_policy_and_its_adapters() -> None:
    given = Engine(model="org/policy", options={"max_model_len": 99, "dtype": "auto"}, replicas=2)
    assert given.of("org/policy", "main", "float32", 12) == Engine(
        model="org/policy",
        replicas=2,
        options={
            "max_model_len": 99,
            "dtype": "float32",
            "revision": "main",
            "enable_lora": True,
            "max_lora_rank": 16,
        },
    )
    assert given.window == 99


@pytest.mark.parametrize(
    ("answers", "engine", "message"),
    [
        ({"generator": {"name": "openai", "model": "x"}}, {}, "generator: expected {name: openai, engine: NAME}"),
        ({"max_thinking_tokens": 3}, {}, "answers: max_thinking_tokens needs answers in process"),
        ({}, {"name": "sglang", "model": "a/b"}, "expected an engine that takes token ids: vllm, not sglang"),
        ({}, {"name": "vllm", "model": "a/b"}, "engine 'stub' serves a/b; answers are those of policy.model"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, tiny_model: Path, answers: dict[str, Any], engine: dict[str, Any], message: str
) -> None:
    stub = served(tmp_path, tiny_model, **answers)
    if engine:
        stub.recipe["runtime"]["engines"]["stub"] = engine
    (tmp_path / "x.yaml").write_text(json.dumps(stub.recipe))
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "x.yaml", check=False)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
