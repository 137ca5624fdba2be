"""`harness fields` and `harness schema`: every field has a text, and the schema takes the recipes that are valid."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from harness.cli.app import app
from harness.components import FOLDERS, component_class, modules
from harness.errors import RecipeError
from harness.recipe.recipe import Recipe
from harness.recipe.reference.schema import recipe_schema
from harness.recipe.reference.texts import models_in, summary, text_of
from harness.recipe.trl_loss import TrlLoss

ROOT = Path(__file__).parents[3]
RECIPES = [path for path in sorted((ROOT / "recipes").glob("**/*.yaml")) if b"\npolicy: " in path.read_bytes()]


def every_model() -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = []
    waiting: list[type[BaseModel]] = [
        Recipe,
        TrlLoss,
        *(component_class(k, name) for k in FOLDERS for name in modules(k)),
    ]
    while waiting:
        cls = waiting.pop()
        if cls not in found:
            found.append(cls)
            waiting += [inner for info in cls.model_fields.values() for inner in models_in(info.annotation)]
    return found


def test_every_field_has_a_text() -> None:
    models = every_model()
    assert len(models) > 80
    missing = [f"{cls.__name__}.{field}" for cls in models for field in cls.model_fields if not text_of(cls, field)]
    assert missing == [], "write what they are below these fields"


def test_every_text_is_its_field_s_own() -> None:
    """Neither another field's of the same section, nor what the section is, nor a word for programmers."""
    for cls in every_model():
        texts = [text_of(cls, field) or "" for field in cls.model_fields]
        assert len(set(texts)) == len(texts), f"{cls.__name__}: two fields have the same text"
        assert summary(cls) not in texts, cls.__name__
        assert not [text for text in texts if "Raises" in text], cls.__name__
        assert max(map(len, texts), default=0) < 420, cls.__name__


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "100"})
    if done.exception is not None:
        raise done.exception
    return " ".join(done.output.split())


def test_fields_of_the_recipe_of_a_section_and_of_one_field() -> None:
    whole = printed("fields")
    assert all(name in whole for name in Recipe.model_fields)
    section = printed("fields", "data.prompts")
    assert "max_words integer, >= 1 400 Words of the longest new prompt." in section
    assert "count integer, >= 1 required" in section
    one = printed("fields", "evaluation.answers.temperature")
    assert one.startswith("evaluation.answers.temperature number | null, by default null, >= 0")
    assert "None: as the benchmark prescribes" in one
    assert printed("fields", "gates[0].min").startswith("gates.min number | null, by default null")
    assert printed("fields", "methods[].loss").endswith("harness components loss")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data.promts", "no field 'promts' in data; did you mean 'prompts'?"),
        ("data.reward.model", "data.reward has no fields of its own; harness components reward lists what it may be"),
        ("seed.x", "seed has no fields of its own; harness fields seed describes it"),
    ],
)
def test_a_wrong_path_is_one_line(path: str, expected: str) -> None:
    with pytest.raises(RecipeError, match="fields: ") as caught:
        printed("fields", path)
    assert expected in str(caught.value)


@cache
def validator() -> Any:
    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_that_ships_is_what_the_command_writes(tmp_path: Path) -> None:
    printed("schema", "-o", str(tmp_path / "made.json"))
    shipped = ROOT / "recipes" / "recipe.schema.json"
    assert shipped.read_text() == (tmp_path / "made.json").read_text(), f"harness schema -o {shipped.relative_to(ROOT)}"


def test_recipes_that_ship_name_the_schema_for_editors() -> None:
    """Where `harness init` names it: in the first line, as a path from the recipe."""
    for path in RECIPES:
        named = path.read_text().split("\n", 1)[0].removeprefix("# yaml-language-server: $schema=")
        assert (path.parent / named).resolve() == ROOT / "recipes" / "recipe.schema.json", path


def test_the_schema_takes_the_recipes_that_ship() -> None:
    assert len(RECIPES) > 10
    for path in RECIPES:
        problems = [error.message for error in validator().iter_errors(yaml.safe_load(path.read_text()))]
        assert problems == [], path


SHORT = """
name: short
policy: {model: m}
data:
  ranked: ranked.jsonl
  pairs: best_worst
methods: [{id: a, engine: trl, loss: {name: sigmoid}}, {id: b, loss: {name: dpo_best_worst}}]
rounds: 2
evaluation:
  benchmarks: [{name: humaneval, allow_code: true}]
  checkpoints: [0.5, 1.0]
runtime: {report_to: tensorboard, resources: {default: {memory: 8GB}}}
systems: [{id: s, answers: {alpaca_eval: outputs.json}}]
sweep: {seeds: [0, 1]}
"""


def test_the_schema_takes_short_forms() -> None:
    assert [error.message for error in validator().iter_errors(yaml.safe_load(SHORT))] == []


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        ({"sede": 1}, []),
        ({"seed": -1}, ["seed"]),
        ({"data": {"seeds": [{"name": "cvs", "path": "x"}]}}, ["data"]),
        ({"data": {"seeds": [{"name": "csv", "pth": "x"}]}}, ["data"]),
        ({"methods": [{"id": "a", "loss": {"name": "dpo_best_worst", "beta": 0}}]}, ["methods", 0, "loss"]),
    ],
)
def test_the_schema_underlines_mistakes(edit: dict[str, Any], place: list[Any]) -> None:
    recipe = {"name": "x", "policy": {"model": "m"}, "data": {"seeds": [{"name": "builtin"}]}} | edit
    found = list(validator().iter_errors(recipe))
    assert [list(error.absolute_path)[: len(place)] for error in found] == [place]


def test_the_schema_has_the_texts_of_the_docstrings() -> None:
    def texts(value: Any) -> Iterator[str]:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if key == "properties":
                yield from (field.get("description", "") for field in inner.values() if set(field) != {"enum"})
            if isinstance(inner, dict | list):
                yield from texts(inner)

    found = list(texts(json.loads(printed("schema"))))
    assert len(found) > 300
    assert "Words of the longest new prompt." in found
