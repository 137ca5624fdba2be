"""Recipes that load, what their dictionary holds, and how fast they are read."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from harness.recipe.load import load_recipe, recipe_dict
from tests.a_recipe import RECIPE, edited, load

# With `systems`, `sweep` and `gates` present and empty.
DESIGN = """\
name: quickstart
seed: 0
policy: {model: smollm2-135m-instruct, dtype: bfloat16}
data:
  seeds: [{name: builtin}]
  holdout: 0.2
  prompts: {generator: {name: hf, model: smollm2-135m-instruct}, count: 32, shots: 3, temperature: 1.0}
  responses: {generator: {name: hf, model: smollm2-135m-instruct}, n: 4, temperature: 0.9, max_new_tokens: 96}
  reward: {name: trained, base: smollm2-135m-instruct}
methods:
  - {id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}
  - {id: dpo-adjacent, loss: {name: dpo_adjacent, beta: 0.1}}
  - {id: multi-dpo, loss: {name: mdpo_linear, beta: 0.1}, training: {epochs: 2}}
training: {epochs: 1, learning_rate: 1.0e-4, lora: {r: 16}}
evaluation:
  judge: {name: local, model: smollm2-135m-instruct}
  benchmarks:
    - {name: alpaca_eval, prompts: builtin, reference: base}
    - {name: mt_bench, questions: builtin}
systems: []
sweep: {}
gates: []
runtime: {}
"""


def test_a_recipe_loads(folder: Path) -> None:
    recipe = load(folder, RECIPE)
    assert recipe.name == "x"
    assert recipe.training.learning_rate == 1e-4
    assert [m.id for m in recipe.methods] == ["dpo", "multi-dpo"]
    assert recipe.training_of(recipe.methods[1]).epochs == 2
    assert recipe.data
    assert len(recipe.data.seeds[0].pairs()) == 8  # its path is relative to the recipe's folder


def test_the_designs_recipe_loads(folder: Path) -> None:
    recipe = load(folder, DESIGN)
    assert recipe.evaluation is not None
    assert len(recipe.evaluation.benchmarks) == 2


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_recipes_are_valid(path: Path) -> None:
    assert load_recipe(path, check=False).name == path.stem


def test_check_can_be_left_out(folder: Path) -> None:
    (folder / "x.yaml").write_text(edited("pairs.jsonl", "pears.jsonl"))
    assert load_recipe(folder / "x.yaml", check=False).name == "x"


def test_aliases_within_limits_are_fine(folder: Path) -> None:
    text = edited(
        "generator: {name: hf, model: smollm2-135m-instruct}", "generator: &hf {name: hf, model: smollm2-135m-instruct}"
    )
    text = text.replace("generator:\n      name: hf\n      model: smollm2-135m-instruct\n", "generator: *hf\n")
    recipe = load(folder, text)
    assert recipe.data
    assert recipe.data.prompts
    assert recipe.data.responses
    assert recipe.data.responses.generator == recipe.data.prompts.generator


class TestRecipeDict:
    """The recipe as provenance keeps it."""

    def test_it_is_plain_and_has_no_machines_paths(self, folder: Path) -> None:
        (folder / "data").mkdir()
        (folder / "pairs.jsonl").rename(folder / "data" / "pairs.jsonl")
        recipe = load(folder, edited("path: pairs.jsonl", "path: data/pairs.jsonl"), "methods.1.loss.beta=0.3")
        inside, bare = recipe_dict(recipe, folder), recipe_dict(recipe)
        assert inside["data"]["seeds"][0]["path"] == "data/pairs.jsonl"
        assert bare["data"]["seeds"][0]["path"] == "pairs.jsonl"
        assert inside["methods"][1]["loss"]["beta"] == 0.3
        assert inside["evaluation"]["benchmarks"][1]["questions"] == "builtin"
        written = json.dumps(inside, allow_nan=False)
        assert str(folder.parent) not in written

    def test_it_loads_again(self, folder: Path) -> None:
        recipe = load(folder, RECIPE)
        assert load(folder, yaml.safe_dump(recipe_dict(recipe, folder))) == recipe

    def test_no_field_that_may_hold_a_secret(self, folder: Path) -> None:
        judge = "evaluation.judge={name: openai, model: m, base_url: 'http://127.0.0.1:1/v1', api_key_env: HUSH}"
        assert "HUSH" not in json.dumps(recipe_dict(load(folder, RECIPE, judge)))


def test_reading_takes_a_moment(folder: Path) -> None:
    """Without imports: the command line adds the start of Python and pydantic."""
    load(folder, RECIPE)
    started = time.process_time()
    for _ in range(5):
        load(folder, RECIPE)
    assert (time.process_time() - started) / 5 < 0.1


def test_nothing_heavy_is_imported(folder: Path) -> None:
    (folder / "x.yaml").write_text(RECIPE)
    code = (
        "import sys; from pathlib import Path; from harness.recipe.load import load_recipe\n"
        "load_recipe(Path('recipes/x.yaml'))\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'numpy', 'openai', 'huggingface_hub', 'filelock'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
