"""Mistakes in data, components, files, keys and sections as a whole: each ends in one line, and of several the first is
shown."""

from pathlib import Path

import pytest

from harness.errors import RecipeError
from harness.recipe.load import load_recipe
from tests.a_recipe import RECIPE, edited, load, refused

RESPONSES = """\
  responses:
    generator:
      name: hf
      model: smollm2-135m-instruct
    n: 4
"""

CASES = [
    # what is wrong, the text in RECIPE, its replacement, the line and the start of the message
    ("nothing held out", "holdout: 0.25", "holdout: 0", "9: data.holdout: expected more than 0, got 0"),
    (
        "neither a share nor a number",
        "holdout: 0.25",
        "holdout: 1.5",
        "9: data.holdout: expected a share below 1, or a whole number of prompts, got 1.5",
    ),
    ("all held out", "holdout: 0.25", "holdout: 8", "9: data.holdout: holdout 8 of 8 prompts leaves 0 for training"),
    ("no training", "holdout: 0.25", "train_limit: 0", "9: data.train_limit: expected at least 1, got 0"),
    (
        "responses without a reward",
        "  reward: {name: trained, base: smollm2-135m-instruct}\n",
        "",
        "5: data: `reward` is missing, and `responses` are ranked by it: give it, or leave out prompts, responses and ",
    ),
    (
        "a reward without responses",
        RESPONSES,
        "",
        "5: data: `responses` is missing, and `reward` scores them: give it, or leave out prompts, responses and ",
    ),
    (
        "prompts without responses",
        RESPONSES + "  reward: {name: trained, base: smollm2-135m-instruct}\n",
        "",
        "5: data: `responses` is missing, and `prompts` are answered by them: give it, or leave out prompts, ",
    ),
    (
        "unknown judge",
        "{name: local, ",
        "{name: locale, ",
        "26: evaluation.judge.name: unknown judge 'locale'; did you mean 'local'? available: local, ",
    ),
    (
        "component without name",
        "{name: local, ",
        "{",
        "26: evaluation.judge: no judge named: expected {name: ...}, the name one of local, ",
    ),
    (
        "component as text",
        "{name: local, model: smollm2-135m-instruct}",
        "local",
        "26: evaluation.judge: expected {name: ...}, the name one of local, ",
    ),
    (
        "unknown model",
        "dtype: float32}",
        "dtype: float32, revision: a}\nruntime: {micro_batch_size: 0}",
        "5: runtime.micro_batch_size: expected at least 1, got 0",
    ),
    (
        "policy's model",
        "{model: smollm2-135m-instruct, dtype",
        "{model: smollm2-135m, dtype",
        "4: policy.model: unknown model 'smollm2-135m': expected a built-in name, ",
    ),
    (
        "generator's model",
        "      model: smollm2-135m-instruct\n",
        "      model: ./nowhere\n",
        "14: data.responses.generator.model: model folder ",
    ),
    ("seed file", "pairs.jsonl", "pears.jsonl", "8: data.seeds.0.path: "),
    ("unsafe name", "name: x\n", "name: ../x\n", "2: name: expected letters, digits, '.', '_' or '-', "),
    (
        "two fields that disagree",
        "epochs: 1, ",
        "epochs: 1, max_length: 100, ",
        "24: training: max_length must be larger",
    ),
    ("no sweep", "seed: 0", "seed: 0\nsweep: [a]", "4: sweep: expected a mapping of fields, got a list"),
    (
        "no such variable",
        "path: pairs.jsonl",
        "path: ${NO_SUCH}",
        "8: data.seeds.0.path: environment variable 'NO_SUCH' is not set; set it, or write $${NO_SUCH} to keep",
    ),
    (
        "an empty path",
        "path: pairs.jsonl",
        "path: ''",
        "8: data.seeds.0.path: expected the path of a file or folder, got ''",
    ),
    (
        "a judge without its key",
        "{name: local, model: smollm2-135m-instruct}",
        "{name: openai, model: gpt-4o}",
        "26: evaluation.judge: ",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_wrong_section(folder: Path, old: str, new: str, message: str) -> None:
    assert refused(folder, edited(old, new)).startswith(f"recipes/x.yaml:{message}")


def test_a_missing_file_is_named_with_the_nearest(folder: Path) -> None:
    assert "no such file; expected a file of preference pairs" in refused(folder, edited("pairs.jsonl", "pears.jsonl"))
    assert refused(folder, edited("pairs.jsonl", "pears.jsonl")).endswith("did you mean 'pairs.jsonl'?")
    (folder / "quickstart.yaml").write_text(RECIPE)
    with pytest.raises(RecipeError, match=r"^recipes/quikstart\.yaml: no such file; did you mean 'quickstart\.yaml'\?"):
        load_recipe(Path("recipes/quikstart.yaml"))
    with pytest.raises(RecipeError, match=r"^nowhere/x\.yaml: no such file; its folder has no \*\.yaml file$"):
        load_recipe(Path("nowhere/x.yaml"))
    with pytest.raises(RecipeError, match=r"^recipes: can't be read .*; expected a YAML file$"):
        load_recipe(Path("recipes"))


def test_a_bad_seed_row_is_named_by_its_line(folder: Path) -> None:
    (folder / "pairs.jsonl").write_text('\n{"prompt": "Hi", "chosen": "Hello"}\n')
    message = refused(folder, RECIPE)
    assert message.startswith("recipes/x.yaml:8: data.seeds.0.path: ")
    assert "pairs.jsonl:2: columns not recognised: expected prompt, chosen, rejected; " in message


def test_of_several_mistakes_the_first_is_shown(folder: Path) -> None:
    text = edited("    n: 4", "    n: 1").replace("seed: 0", "seed: -1").replace("{r: 8}", "{r: 0}")
    assert refused(folder, text) == "recipes/x.yaml:3: seed: expected at least 0, got -1 (and 2 more)"


def test_a_judge_needs_its_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = edited("{name: local, model: smollm2-135m-instruct}", "{name: openai, model: gpt-4o}")
    assert "OPENAI_API_KEY" in refused(folder, text)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234")
    assert load(folder, text).evaluation is not None
