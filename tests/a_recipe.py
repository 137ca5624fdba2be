"""A recipe to be edited into wrong ones, its folder, and what is said of it."""

import json
from pathlib import Path

import pytest

from harness.errors import RecipeError
from harness.recipe.load import load_recipe
from harness.recipe.recipe import Recipe

RECIPE = """\
# harness run recipes/x.yaml
name: x
seed: 0
policy: {model: smollm2-135m-instruct, dtype: float32}
data:
  seeds:
    - name: jsonl
      path: pairs.jsonl
  holdout: 0.25
  prompts: {generator: {name: hf, model: smollm2-135m-instruct}, count: 8}
  responses:
    generator:
      name: hf
      model: smollm2-135m-instruct
    n: 4
  reward: {name: trained, base: smollm2-135m-instruct}
methods:
  - {id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}
  - id: multi-dpo
    loss:
      name: mdpo_linear
      beta: 0.1
    training: {epochs: 2}
training: {epochs: 1, learning_rate: 1e-4, lora: {r: 8}}
evaluation:
  judge: {name: local, model: smollm2-135m-instruct}
  benchmarks:
    - {name: alpaca_eval, prompts: builtin, reference: base}
    - {name: mt_bench, questions: builtin}
"""


def recipe_folder(parent: Path) -> Path:
    """A recipe's folder, `recipes`, with a seed file of eight pairs. Tests run in the folder above it."""
    folder = parent / "recipes"
    folder.mkdir()
    rows = [{"prompt": f"{i} + {i}?", "chosen": str(2 * i), "rejected": "no"} for i in range(8)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def load(folder: Path, text: str, *overrides: str) -> Recipe:
    (folder / "x.yaml").write_text(text, encoding="utf-8")
    return load_recipe(Path("recipes/x.yaml"), overrides)


def refused(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load(folder, text, *overrides)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def edited(old: str, new: str) -> str:
    assert RECIPE.count(old) == 1, old
    return RECIPE.replace(old, new)
