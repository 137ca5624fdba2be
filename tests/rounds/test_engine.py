"""A later round's responses by an engine, which is given the adapter of the round before."""

from pathlib import Path

import pytest

from harness.models import chat
from harness.models.load import load_tokenizer
from harness.types import PreferencePair
from tests.serving.test_runs import Stub


@pytest.mark.slow
def test_the_engine_is_given_the_adapter_of_the_round_before(tmp_path: Path, tiny_model: Path) -> None:
    stub = Stub(tmp_path, tiny_model)
    data = stub.recipe["data"]
    del data["prompts"], stub.recipe["evaluation"]
    data["responses"] |= {"max_new_tokens": 5}
    stub.recipe["methods"] = [{"id": "dpo", "loss": {"name": "dpo_best_worst", "beta": 0.1}}]
    stub.recipe["training"] = {"lora": {"r": 4}, "max_prompt_length": 64, "max_length": 128}
    stub.recipe["rounds"] = 3
    done = stub.run()
    asked = [call for call in stub.calls if call["path"] == "/v1/completions"]
    loads = {call["lora_name"]: call["lora_path"] for call in stub.calls if call["path"] == "/v1/load_lora_adapter"}
    assert set(loads.values()) == {str(done.checkpoints[row].path) for row in ("dpo", "dpo.round-2")}
    assert {call["model"] for call in asked} == set(loads), "the first round asks in conversations"
    tokenizer = load_tokenizer(str(tiny_model))
    (plan,) = done.completed.plan.plans
    seeds = done.completed.executed.artifacts[plan.data["seeds"].key].rows("train.jsonl", PreferencePair)
    prompts = {tuple(chat.encode_prompt(tokenizer, pair.messages)) for pair in seeds}
    for name in loads:
        calls = [call for call in asked if call["model"] == name]
        assert {tuple(call["prompt"]) for call in calls} == prompts
        assert len(calls) == len(prompts) == len({call["seed"] for call in calls})
    assert stub.is_gone()
