"""Every mistake in a recipe ends in one line that names file, line, field, what was expected, the nearest name."""

from pathlib import Path

import pytest

from harness.errors import RecipeError
from harness.recipe_file import load_recipe
from tests.a_recipe import RECIPE, edited, load, recipe_folder, refused


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return recipe_folder(tmp_path)


RESPONSES = """\
  responses:
    generator:
      name: hf
      model: smollm2-135m-instruct
    n: 4
"""

UNIT = "20: methods.1.match: expected 'steps', 'prompts' or 'tokens', got 'step'; did you mean 'steps'?"

FIELDS = [
    # what is wrong, the old text, the new one, the line, the message's beginning
    ("unknown field, top", "seed: 0", "sead: 0", "3: sead: unknown field; did you mean 'seed'? expected one of: "),
    (
        "unknown field, nested",
        "dtype: float32",
        "dtyp: float32",
        "4: policy.dtyp: unknown field; did you mean 'dtype'? ",
    ),
    (
        "unknown field, component",
        "      beta: 0.1",
        "      bta: 0.1",
        "22: methods.1.loss.bta: unknown field; did you mean 'beta'? expected one of: beta, ",
    ),
    (
        "unknown field, method's training",
        "{epochs: 2}",
        "{epoch: 2}",
        "23: methods.1.training.epoch: unknown field; did you mean 'epochs'? expected one of: all_responses, ",
    ),
    (
        "unknown field, lora",
        "{r: 8}",
        "{r: 8, rank: 3}",
        "24: training.lora.rank: unknown field; expected one of: alpha, ",
    ),
    ("nothing near", "seed: 0", "zzzzzz: 0", "3: zzzzzz: unknown field; expected one of: data, evaluation, "),
    ("missing, top", "policy: {model: smollm2-135m-instruct, dtype: float32}\n", "", "1: policy: missing; "),
    (
        "missing, nested",
        "policy: {model: smollm2-135m-instruct, dtype: float32}",
        "policy: {}",
        "4: policy.model: missing",
    ),
    (
        "missing, component",
        ", base: smollm2-135m-instruct",
        "",
        "16: data.reward.base: missing; this field must be given",
    ),
    ("missing, in a list", "  - {id: dpo, ", "  - {", "18: methods.0.id: missing; this field must be given"),
    (
        "misspelt and so missing",
        "  - id: multi-dpo",
        "  - idd: m",
        "19: methods.1.idd: unknown field; did you mean 'id'?",
    ),
    ("text for a number", "    n: 4", "    n: four", "15: data.responses.n: expected a whole number, got 'four'"),
    ("fraction for a whole", "    n: 4", "    n: 2.5", "15: data.responses.n: expected a whole number, got 2.5"),
    ("true for a mapping", "{epochs: 2}", "true", "23: methods.1.training: expected a mapping of fields, got true"),
    ("number for text", "name: x\n", "name: 12\n", "2: name: expected text, got 12; put it in quotes"),
    ("yes for text", "name: x\n", "name: yes\n", "2: name: expected text, got true; put it in quotes"),
    ("list for a number", "holdout: 0.25", "holdout: [0.25]", "9: data.holdout: expected a number, got a list"),
    (
        "mapping for a list",
        "    - name: jsonl\n      path: pairs.jsonl",
        "      name: jsonl",
        "6: data.seeds: expected a list",
    ),
    (
        "nothing",
        "policy: {model: smollm2-135m-instruct, dtype: float32}",
        "policy:",
        "4: policy: expected a mapping of fields, ",
    ),
    (
        "this or that",
        "{r: 8}",
        "{r: 8, target_modules: 4}",
        "24: training.lora.target_modules: expected a list or 'all-linear', got 4",
    ),
    ("N < 2", "    n: 4", "    n: 1", "15: data.responses.n: expected at least 2, got 1"),
    ("too much", "    n: 4", "    n: 65", "15: data.responses.n: expected at most 64, got 65"),
    (
        "exclusive bound",
        "epochs: 1, ",
        "epochs: 1, warmup_ratio: 1, ",
        "24: training.warmup_ratio: expected less than 1, got 1",
    ),
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
    ("negative", "      beta: 0.1", "      beta: -1", "22: methods.1.loss.beta: expected more than 0, got -1"),
    (
        "out of range in a method",
        "{epochs: 2}",
        "{epochs: 0}",
        "23: methods.1.training.epochs: expected more than 0, got 0",
    ),
    (
        "infinite",
        "      beta: 0.1",
        "      beta: .inf",
        "22: methods.1.loss.beta: expected a finite number, got '.inf'",
    ),
    (
        "infinite text",
        "      beta: 0.1",
        "      beta: inf",
        "22: methods.1.loss.beta: expected a finite number, got 'inf'",
    ),
    (
        "not a number",
        "learning_rate: 1e-4",
        "learning_rate: .nan",
        "24: training.learning_rate: expected a finite number",
    ),
    (
        "an empty list",
        "    - {name: alpaca_eval, prompts: builtin, reference: base}\n    - {name: mt_bench, questions: builtin}\n",
        "    []\n",
        "27: evaluation.benchmarks: expected at least 1 item, got an empty list",
    ),
    (
        "bad choice",
        "float32",
        "flaot32",
        "4: policy.dtype: expected 'float32', 'bfloat16' or 'float16', got 'flaot32'; did you mean 'float32'?",
    ),
    (
        "unknown loss",
        "name: mdpo_linear",
        "name: mdpo_liner",
        "21: methods.1.loss.name: unknown loss 'mdpo_liner'; did you mean 'mdpo_linear'? available: ",
    ),
    (
        "misspelt engine",
        "id: multi-dpo",
        "id: multi-dpo\n    engine: tlr",
        "20: methods.1.engine: expected 'harness' or 'trl', got 'tlr'; did you mean 'trl'?",
    ),
    (
        "unknown loss of TRL's",
        "  - {id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}",
        "  - {id: dpo, engine: trl, loss: {name: sigmod}}",
        "18: methods.0.loss.name: unknown TRL loss 'sigmod'; did you mean 'sigmoid'? available: aot, ",
    ),
    (
        "unknown loss of TRL's in a list",
        "  - {id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}",
        "  - {id: dpo, engine: trl, loss: {name: [sft, sigmod]}}",
        "18: methods.0.loss.name: unknown TRL loss 'sigmod'; did you mean 'sigmoid'? available: aot, ",
    ),
    (
        "TRL's loss without its engine",
        "{name: dpo_best_worst, beta: 0.1}",
        "{name: sigmoid, beta: 0.1}",
        "18: methods.0.loss.name: 'sigmoid' is a loss of TRL's; add engine: trl to the method, or name one of ",
    ),
    (
        "TRL's engine with a loss of the harness",
        "{id: dpo, ",
        "{id: dpo, engine: trl, ",
        "18: methods.0.loss.name: 'dpo_best_worst' is a loss of the harness; remove engine: trl, or name one of TRL's",
    ),
    (
        "unknown field of TRL's loss",
        "{id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}",
        "{id: dpo, engine: trl, loss: {name: sigmoid, bta: 0.1}}",
        "18: methods.0.loss.bta: unknown field; did you mean 'beta'? expected one of: beta, label_smoothing, ",
    ),
    (
        "unknown pairs",
        "{id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}",
        "{id: dpo, engine: trl, loss: {name: sigmoid, pairs: adjacnt}}",
        "18: methods.0.loss.pairs: expected 'best_worst', 'best_rest', 'adjacent' or 'all_pairs', got 'adjacnt'; "
        "did you mean 'adjacent'?",
    ),
    (
        "TRL's loss without a name",
        "{id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}",
        "{id: dpo, engine: trl, loss: {beta: 0.1}}",
        "18: methods.0.loss.name: missing; this field must be given",
    ),
    (
        "TRL's loss as a number",
        "{id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}",
        "{id: dpo, engine: trl, loss: {name: 4}}",
        "18: methods.0.loss.name: expected the name of one of TRL's losses, or a list of such names, got 4",
    ),
    (
        "TRL's loss as text",
        "{id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}",
        "{id: dpo, engine: trl, loss: sigmoid}",
        "18: methods.0.loss: expected a mapping of fields, got 'sigmoid'",
    ),
    (
        "a smoothing that does nothing",
        "{id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}",
        "{id: dpo, engine: trl, loss: {name: sigmoid, label_smoothing: 0.1}}",
        "18: methods.0.loss: label_smoothing does nothing to trl:sigmoid; remove it (it is for aot, ",
    ),
    (
        "a smoothing that is needed",
        "{id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}",
        "{id: dpo, engine: trl, loss: {name: exo_pair}}",
        "18: methods.0.loss: exo_pair needs a label_smoothing above 0",
    ),
    (
        "weights that don't fit",
        "{id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}",
        "{id: dpo, engine: trl, loss: {name: [sigmoid, sft], loss_weights: [1.0]}}",
        "18: methods.0.loss: loss_weights has 1 for 2 losses; give one each, or none",
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
    ("same id twice", "id: multi-dpo", "id: dpo", "17: methods: method ids must differ"),
    ("id of the base", "id: multi-dpo", "id: base", "17: methods: method ids must differ"),
    ("id of a fine-tuned policy", "id: multi-dpo", "id: sft-2", "17: methods: 'sft-2' names a row of a policy that "),
    (
        "unknown field of sft",
        "{epochs: 2}",
        "{sft: {epoch: 2}}",
        "23: methods.1.training.sft.epoch: unknown field; did you mean 'epochs'? expected one of: batch_size, ",
    ),
    ("sft as a number", "{epochs: 2}", "{sft: 2}", "23: methods.1.training.sft: expected a mapping of fields, got 2"),
    ("unsafe name", "name: x\n", "name: ../x\n", "2: name: expected letters, digits, '.', '_' or '-', "),
    (
        "two fields that disagree",
        "epochs: 1, ",
        "epochs: 1, max_length: 100, ",
        "24: training: max_length must be larger",
    ),
    (
        "a seed twice",
        "epochs: 1, ",
        "epochs: 1, seeds: [0, 1, 0], ",
        "24: training.seeds: expected each seed once; repeated: 0",
    ),
    ("no seeds", "{epochs: 2}", "{seeds: []}", "23: methods.1.training.seeds: expected at least 1 item, got an "),
    ("a seed that is none", "{epochs: 2}", "{seeds: [-1]}", "23: methods.1.training.seeds.0: expected at least 0, "),
    ("a unit that is none", "    loss:\n", "    match: step\n    loss:\n", UNIT),
    (
        "matched to a method that is not there",
        "    loss:\n",
        "    match: steps\n    match_to: dpp\n    loss:\n",
        "21: methods.1.match_to: unknown method 'dpp'; did you mean 'dpo'? available: dpo",
    ),
    (
        "matched to itself",
        "  - {id: dpo, ",
        "  - {id: dpo, match: steps, ",
        "18: methods.0.match: 'dpo' would be matched to itself; expected match_to: one of multi-dpo",
    ),
    (
        "matched to nobody's amount",
        "  - {id: dpo, ",
        "  - {id: dpo, match_to: multi-dpo, ",
        "18: methods.0.match_to: has no effect without `match`; add match: steps, prompts or tokens, or remove it",
    ),
    (
        "they disagree in a method",
        "{epochs: 2}",
        "{max_length: 100}",
        "23: methods.1.training: max_length must be larger",
    ),
    ("no sweep", "seed: 0", "seed: 0\nsweep: [a]", "4: sweep: expected a mapping of fields, got a list"),
    ("no such variable", "name: x\n", "name: ${NO_SUCH}\n", "2: name: environment variable 'NO_SUCH' is not set; "),
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


@pytest.mark.parametrize(("old", "new", "message"), [f[1:] for f in FIELDS], ids=[f[0] for f in FIELDS])
def test_a_wrong_field_is_named(folder: Path, old: str, new: str, message: str) -> None:
    assert refused(folder, edited(old, new)).startswith(f"recipes/x.yaml:{message}")


def test_a_file_that_is_not_there_is_told_with_the_nearest(folder: Path) -> None:
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


def test_of_several_mistakes_the_first_line_is_told(folder: Path) -> None:
    text = edited("    n: 4", "    n: 1").replace("seed: 0", "seed: -1").replace("{r: 8}", "{r: 0}")
    assert refused(folder, text) == "recipes/x.yaml:3: seed: expected at least 0, got -1 (and 2 more)"


def test_a_judge_needs_its_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = edited("{name: local, model: smollm2-135m-instruct}", "{name: openai, model: gpt-4o}")
    assert "OPENAI_API_KEY" in refused(folder, text)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234")
    assert load(folder, text).evaluation is not None


def test_a_method_may_not_have_the_id_of_anothers_row(folder: Path) -> None:
    text = edited("{epochs: 2}", "{seeds: [1, 2]}").replace("id: dpo,", "id: multi-dpo.seed-2,")
    assert refused(folder, text) == (
        "recipes/x.yaml:18: methods.0.id: 'multi-dpo.seed-2' is the row of 'multi-dpo' with training seed 2; "
        "rename one of them"
    )
    assert load(folder, text, "methods.1.training.seeds=[1, 3]").methods[0].id == "multi-dpo.seed-2"


def test_budgets_in_a_circle_are_refused(folder: Path) -> None:
    text = edited("    loss:\n", "    match: tokens\n    loss:\n")
    message = refused(folder, text.replace("id: dpo,", "id: dpo, match: steps, match_to: multi-dpo,"))
    assert message == (
        "recipes/x.yaml:18: methods.0.match_to: matched in a circle: dpo -> multi-dpo -> dpo; "
        "one of them needs epochs of its own (and 1 more)"
    )


def test_a_training_seed_without_its_like_is_refused(folder: Path) -> None:
    text = edited("    loss:\n", "    match: tokens\n    loss:\n")
    message = refused(folder, text, "training.seeds=[0, 1]", "methods.1.training.seeds=[1, 7]")
    assert message == (
        "recipes/x.yaml:20: methods.1.match: 'dpo' has no training with seed 7 to match; its training seeds are 0, 1"
    )
    load(folder, text, "methods.1.training.seeds=[1, 7]")  # the other's only training fits every seed
    load(folder, text, "methods.0.training.seeds=[0, 1]")  # the recipe's own seed is 0
