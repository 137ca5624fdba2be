"""A policy's chat template and its thoughts in recipes: what `validate` finds, and whom the settings reach."""

import re
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from harness.errors import RecipeError
from harness.models.templates import checking
from harness.pipeline.plan import make_plan
from harness.recipe.load import load_study
from harness.recipe.policy import policy_identity, policy_tokenizer, scored_identity
from harness.recipe.recipe import Recipe
from harness.types import Sampling

OFF = {"enable_thinking": False}


@pytest.fixture(autouse=True)
def _each_notice_anew() -> None:
    checking.tell.cache_clear()


@pytest.fixture
def thinker(tiny_model: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_model, tmp_path / "thinker")
    template = files("trl").joinpath("chat_templates", "qwen3.jinja").read_text()
    (tmp_path / "thinker" / "chat_template.jinja").write_text(template)
    return tmp_path / "thinker"


def recipe(model: Path | str, generator: dict[str, Any] | None = None, **policy: Any) -> dict[str, Any]:
    made = {"name": "hf", "model": str(model), "dtype": "float32"}
    return {
        "name": "x",
        "policy": {"model": str(model), "dtype": "float32", **policy},
        "data": {
            "seeds": [{"name": "builtin", "limit": 20}],
            "prompts": {"generator": {"name": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}, "count": 2},
            "responses": {"sources": [{"generator": made, "n": 2}, {"generator": generator or made, "n": 1}]},
            "reward": {"name": "length"},
            "report": False,
        },
        "methods": [{"id": "dpo", "loss": {"name": "dpo_best_worst"}}],
    }


def read(fields: dict[str, Any]) -> Recipe:
    return load_study(fields).cells[0].recipe


def test_a_misspelt_variable_is_found_before_the_run(thinker: Path, tiny_model: Path) -> None:
    with pytest.raises(RecipeError, match=r"chat_template_kwargs: .*doesn't mention 'thinking'; .*enable_thinking"):
        read(recipe(thinker, chat_template_kwargs={"thinking": True}))
    with pytest.raises(RecipeError, match="doesn't mention 'enable_thinking', nor any other variable; remove it"):
        read(recipe(tiny_model, chat_template_kwargs=OFF))
    generator = {"name": "hf", "model": str(tiny_model), "chat_template_kwargs": OFF}
    with pytest.raises(RecipeError, match=r"data\.responses\.sources\.1\.generator.*nor any other variable"):
        read(recipe(thinker, generator))


@pytest.mark.parametrize("values", [{"messages": []}, {"bos_token": "x"}, {"a b": 1}, {"add_generation_prompt": False}])
def test_what_every_template_is_given_can_not_be_set(values: dict[str, Any], thinker: Path) -> None:
    with pytest.raises(RecipeError, match="can't be set here; expected a variable of the chat template's own"):
        read(recipe(thinker, chat_template_kwargs=values))


def test_a_generator_of_the_policys_model_has_its_template(thinker: Path, tiny_model: Path) -> None:
    other = {"name": "hf", "model": str(tiny_model), "dtype": "float32"}
    made = read(recipe(thinker, other, chat_template_kwargs=OFF))
    assert made.data is not None
    assert made.data.responses is not None
    given = [source.generator.identity().get("chat_template_kwargs") for source in made.data.responses.sources]
    assert given == [OFF, None]
    own = {"name": "hf", "model": str(thinker), "chat_template_kwargs": {"enable_thinking": True}}
    made = read(recipe(thinker, own, chat_template_kwargs=OFF))
    assert made.data is not None
    assert made.data.responses is not None
    assert made.data.responses.sources[1].generator.identity()["chat_template_kwargs"] == {"enable_thinking": True}


def test_how_answers_are_trained_on_is_said_and_part_of_keys(thinker: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With thinking on, the prompt leaves out the empty thought that the template's own conversation has. With
    thinking off, it has one, and nothing needs saying."""
    thinks, not_thinking = read(recipe(thinker)), None
    assert any("answers that are trained on or scored follow" in r.message for r in caplog.records)
    caplog.clear()
    checking.tell.cache_clear()
    not_thinking = read(recipe(thinker, chat_template_kwargs=OFF))
    assert not any("trained on" in r.message for r in caplog.records)
    assert thinks.policy is not None
    assert not_thinking.policy is not None
    assert "before_answers" in scored_identity(thinks.policy)
    assert "before_answers" not in policy_identity(thinks.policy) | scored_identity(not_thinking.policy)
    keys = [{stage.id: stage.key for stage in make_plan(made).stages} for made in (thinks, not_thinking)]
    for stage in ("responses", "train/dpo", "heldout/base"):
        assert keys[0][stage] != keys[1][stage], stage
    assert keys[0]["prompts"] == keys[1]["prompts"]
    template = str(policy_tokenizer(not_thinking.policy).chat_template)
    assert re.match(r"{% if enable_thinking is not defined %}{% set enable_thinking = false %}", template)


def test_a_sampling_without_a_budget_has_its_old_key() -> None:
    assert Sampling().model_dump(mode="json") == {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 256, "stop": []}
    assert Sampling(max_thinking_tokens=8).model_dump()["max_thinking_tokens"] == 8
    assert Sampling.model_validate(Sampling(max_thinking_tokens=8).model_dump()).most_tokens == 264
