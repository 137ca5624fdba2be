"""Mistakes in the names and values of fields: each ends in one line that names file, line, field, what was expected and
the nearest name."""

from pathlib import Path

import pytest

from tests.a_recipe import edited, refused

CASES = [
    # what is wrong, the text in RECIPE, its replacement, the line and the start of the message
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
    (
        "yes for a number",
        "holdout: 0.25",
        "holdout: yes",
        "9: data.holdout: expected a number, not true or false, got true",
    ),
    (
        "no for a number",
        "    n: 4",
        "    n: no",
        "15: data.responses.n: expected at least 2, got false (YAML reads yes and on as true, no and off as false)",
    ),
    (
        "on among numbers",
        "training: {epochs: 1,",
        "training: {seeds: [on, 2], epochs: 1,",
        "24: training.seeds: expected a number, not true or false",
    ),
    (
        "yes in a component",
        "      beta: 0.1",
        "      beta: yes",
        "22: methods.1.loss.beta: expected a number, not true",
    ),
    ("octal", "    n: 4", "    n: 010", "15: data.responses.n: YAML reads '010' as 8; write the number that is meant"),
    ("to the base of 60", "holdout: 0.25", "holdout: 1:30", "9: data.holdout: YAML reads '1:30' as 90; "),
    (
        "a commit like a number",
        "dtype: float32",
        "revision: 12e45678",
        "4: policy.revision: expected a finite number, got '12e45678'; put it in quotes if it is text",
    ),
    (
        "a commit of digits",
        "dtype: float32",
        "revision: 1234567",
        "4: policy.revision: expected text, got 1234567; put it in quotes",
    ),
    (
        "training in a method",
        "  - {id: dpo, ",
        "  - {id: dpo, epochs: 2, ",
        "18: methods.0.epochs: unknown field; it belongs in training; expected one of",
    ),
    (
        "a loss's field",
        "  - {id: dpo, ",
        "  - {id: dpo, beta: 2, ",
        "18: methods.0.beta: unknown field; it belongs in methods.loss; ",
    ),
    (
        "a deep field",
        "seed: 0",
        "max_new_tokens: 3",
        "3: max_new_tokens: unknown field; it belongs in data.prompts or data.responses or evaluation.answers; ",
    ),
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
        "4: policy.dtype: expected 'auto', 'float32', 'bfloat16' or 'float16', got 'flaot32'; did you mean 'float32'?",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_wrong_name_or_value(folder: Path, old: str, new: str, message: str) -> None:
    assert refused(folder, edited(old, new)).startswith(f"recipes/x.yaml:{message}")
