"""What `validate` finds of models before a run: roles that a template doesn't take, adapters, and their bases."""

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from harness.errors import RecipeError
from harness.models.templates import checking
from harness.recipe.load import load_study
from tests.tiny import CHAT_TEMPLATE, tiny_causal_lm

REFUSES = CHAT_TEMPLATE.replace(
    "{% for message in messages %}",
    "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def refusing(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "refusing"
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(REFUSES)
    return folder


def adapter(model: Path, folder: Path, base: str) -> Path:
    """An adapter on the model, which says that it is for `base`."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(model / name, folder / name)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))
    return folder


def recipe(folder: Path, policy: Path, told: str = "", chosen: str = "a", **data: Any) -> dict[str, Any]:
    rows = [{"prompt": f"What is {i}?", "chosen": chosen, "rejected": "b"} for i in range(8)]
    if told:
        rows = [{"system": told, "question": row.pop("prompt"), **row} for row in rows]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seeds = [{"name": "jsonl", "path": str(folder / "pairs.jsonl")}]
    generator = {"name": "hf", "model": str(policy), "dtype": "float32"}
    return {
        "name": "s",
        "policy": {"model": str(policy), "dtype": "float32"},
        "data": {
            "seeds": seeds,
            "holdout": 2,
            "responses": {"generator": generator, "n": 3},
            "reward": {"name": "length"},
            **data,
        },
        "methods": [{"id": "dpo", "loss": {"name": "dpo_best_worst"}}],
    }


def test_a_system_message_that_no_template_takes_is_told_or_refused(
    refusing: Path, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checking.tell.cache_clear()
    load_study(recipe(tmp_path, refusing))
    load_study(recipe(tmp_path, model, "Be brief."))
    assert "system" not in caplog.text
    load_study(recipe(tmp_path, refusing, "Be brief."))
    assert caplog.text.count("refuses system messages: they are put in front of the user's turn") == 1
    with pytest.raises(RecipeError, match=r"policy\.model: .* refuses system messages, which the seed has; set data"):
        load_study(recipe(tmp_path, refusing, "Be brief.", system="refuse"))


@pytest.mark.parametrize("role", ["generator", "trained", "api", "implicit"])
def test_generators_and_reward_models_read_the_seed_too(refusing: Path, model: Path, tmp_path: Path, role: str) -> None:
    rewards = {
        "trained": {"name": "trained", "base": str(refusing), "dtype": "float32"},
        "api": {"name": "api", "base_url": "http://127.0.0.1:9", "model": "m", "tokenizer": str(refusing)},
        "implicit": {"name": "implicit", "policy": str(refusing), "reference": str(refusing)},
    }
    given = recipe(tmp_path, model, "Be brief.", system="refuse")
    if role == "generator":
        given["data"]["responses"]["generator"]["model"] = str(refusing)
    else:
        given["data"]["reward"] = rewards[role]
    field = r"data\.responses\.generator" if role == "generator" else r"data\.reward"
    with pytest.raises(RecipeError, match=rf"{field}.* refuses system messages"):
        load_study(given)


@pytest.mark.parametrize("role", ["policy", "generator", "reward", "base", "judge"])
def test_an_adapter_whose_base_is_missing_is_found(model: Path, tmp_path: Path, role: str) -> None:
    lost = str(adapter(model, tmp_path / "lost", str(tmp_path / "gone")))
    given = recipe(tmp_path, model)
    local = {"name": "local", "model": lost, "dtype": "float32"}
    judged = {"judge": local, "benchmarks": [{"name": "mt_bench"}]}
    if role == "policy":
        judged = judged | {"judge": local | {"model": str(model)}}
        given |= {"policy": {"model": lost, "dtype": "float32"}, "methods": [], "evaluation": judged}
    elif role == "generator":
        given["data"]["responses"]["generator"]["model"] = lost
    elif role == "reward":
        given["data"]["reward"] = {"name": "sequence_classifier", "model": lost, "dtype": "float32"}
    elif role == "base":
        given["data"]["reward"] = {"name": "trained", "base": lost, "dtype": "float32"}
    else:
        given["evaluation"] = judged
    said = "base .* is a PEFT adapter; expected a whole model" if role == "base" else "there is no base model in .*gone"
    with pytest.raises(RecipeError, match=said):
        load_study(given)


def test_an_adapter_is_no_policy_to_train_and_no_reward_model_without_a_head(model: Path, tmp_path: Path) -> None:
    whole = str(adapter(model, tmp_path / "adapter", str(model)))
    with pytest.raises(RecipeError, match=r"policy\.model: policy .* is a PEFT adapter"):
        load_study(recipe(tmp_path, Path(whole)))
    reward = {"name": "sequence_classifier", "model": whole, "dtype": "float32"}
    with pytest.raises(RecipeError, match=r"data\.reward: .*1 missing \(score\.weight\)"):
        load_study(recipe(tmp_path, model, reward=reward))


def test_no_thought_is_trained_on_behind_another(model: Path, tmp_path: Path) -> None:
    """Qwen 3's template writes an empty thought before answers; a template that writes none takes every answer."""
    folder = tmp_path / "thinks"
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(files("trl").joinpath("chat_templates", "qwen3.jinja").read_text())
    thought = "<think>\nHm.\n</think>\n\na"
    keeps: dict[str, Any] = recipe(tmp_path, folder)
    keeps["policy"]["thinking"] = "keep"
    with pytest.raises(RecipeError, match=r"policy.*follow '<think>\\n\\n</think>.*keep; use thinking: strip"):
        load_study(keeps)
    only_judged = {k: v for k, v in keeps.items() if k != "methods"}
    load_study(only_judged)
    with pytest.raises(RecipeError, match=r"policy.*8 of the seed's 16 answers have a thought of their own"):
        load_study(recipe(tmp_path, folder, chosen=thought))
    load_study(recipe(tmp_path, model, chosen=thought))
    load_study(recipe(tmp_path, folder))
