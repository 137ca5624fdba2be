"""Mistakes in methods: losses, engines, ids, training seeds and budgets. Each ends in one line."""

from pathlib import Path

import pytest

from tests.a_recipe import RECIPE, edited, load, refused

DPO = "{id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}"
UNIT = "20: methods.1.match: expected 'steps', 'prompts' or 'tokens', got 'step'; did you mean 'steps'?"

CASES = [
    # what is wrong, the text in RECIPE, its replacement, the line and the start of the message
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
        "18: methods.0.loss.name: 'sigmoid' is a loss of TRL; add engine: trl to the method, or choose one of ",
    ),
    (
        "TRL's engine with a loss of the harness",
        "{id: dpo, ",
        "{id: dpo, engine: trl, ",
        "18: methods.0.loss.name: 'dpo_best_worst' is a loss of the harness; remove engine: trl, or choose one of ",
    ),
    (
        "unknown field of TRL's loss",
        DPO,
        "{id: dpo, engine: trl, loss: {name: sigmoid, bta: 0.1}}",
        "18: methods.0.loss.bta: unknown field; did you mean 'beta'? expected one of: beta, label_smoothing, ",
    ),
    (
        "unknown pairs",
        DPO,
        "{id: dpo, engine: trl, loss: {name: sigmoid, pairs: adjacnt}}",
        "18: methods.0.loss.pairs: expected 'best_worst', 'best_rest', 'adjacent' or 'all_pairs', got 'adjacnt'; "
        "did you mean 'adjacent'?",
    ),
    (
        "TRL's loss without a name",
        DPO,
        "{id: dpo, engine: trl, loss: {beta: 0.1}}",
        "18: methods.0.loss.name: missing; this field must be given",
    ),
    (
        "TRL's loss as a number",
        DPO,
        "{id: dpo, engine: trl, loss: {name: 4}}",
        "18: methods.0.loss.name: expected the name of one of TRL's losses, or a list of such names, got 4",
    ),
    (
        "TRL's loss as text",
        DPO,
        "{id: dpo, engine: trl, loss: sigmoid}",
        "18: methods.0.loss: expected a mapping of fields, got 'sigmoid'",
    ),
    (
        "a smoothing that does nothing",
        DPO,
        "{id: dpo, engine: trl, loss: {name: sigmoid, label_smoothing: 0.1}}",
        "18: methods.0.loss: label_smoothing has no effect on trl:sigmoid; remove it (it is for aot, ",
    ),
    (
        "a smoothing that is needed",
        DPO,
        "{id: dpo, engine: trl, loss: {name: exo_pair}}",
        "18: methods.0.loss: exo_pair needs a label_smoothing above 0",
    ),
    (
        "weights that don't fit",
        DPO,
        "{id: dpo, engine: trl, loss: {name: [sigmoid, sft], loss_weights: [1.0]}}",
        "18: methods.0.loss: 1 loss_weights for 2 losses; give one per loss, or none",
    ),
    ("same id twice", "id: multi-dpo", "id: dpo", "17: methods: method ids must differ"),
    ("id of the base", "id: multi-dpo", "id: base", "17: methods: method ids must differ"),
    ("id of a fine-tuned policy", "id: multi-dpo", "id: sft-2", "17: methods: 'sft-2' is reserved for rows that are "),
    (
        "unknown field of sft",
        "{epochs: 2}",
        "{sft: {epoch: 2}}",
        "23: methods.1.training.sft.epoch: unknown field; did you mean 'epochs'? expected one of: batch_size, ",
    ),
    ("sft as a number", "{epochs: 2}", "{sft: 2}", "23: methods.1.training.sft: expected a mapping of fields, got 2"),
    (
        "a seed twice",
        "epochs: 1, ",
        "epochs: 1, seeds: [0, 1, 0], ",
        "24: training.seeds: expected each seed once; repeated: 0",
    ),
    ("no seeds", "{epochs: 2}", "{seeds: []}", "23: methods.1.training.seeds: expected at least 1 item, got an "),
    ("a negative seed", "{epochs: 2}", "{seeds: [-1]}", "23: methods.1.training.seeds.0: expected at least 0, "),
    ("an unknown unit", "    loss:\n", "    match: step\n    loss:\n", UNIT),
    (
        "matched to an unknown method",
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
        "match_to without match",
        "  - {id: dpo, ",
        "  - {id: dpo, match_to: multi-dpo, ",
        "18: methods.0.match_to: has no effect without `match`; add match: steps, prompts or tokens, or remove it",
    ),
    (
        "lengths that contradict each other",
        "{epochs: 2}",
        "{max_length: 100}",
        "23: methods.1.training: max_length must be larger",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_wrong_method(folder: Path, old: str, new: str, message: str) -> None:
    assert refused(folder, edited(old, new)).startswith(f"recipes/x.yaml:{message}")


def test_a_method_may_not_have_the_id_of_another_row(folder: Path) -> None:
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
        "remove `match` from one of them (and 1 more)"
    )


def test_a_training_seed_without_a_match_is_refused(folder: Path) -> None:
    text = edited("    loss:\n", "    match: tokens\n    loss:\n")
    message = refused(folder, text, "training.seeds=[0, 1]", "methods.1.training.seeds=[1, 7]")
    assert message == (
        "recipes/x.yaml:20: methods.1.match: 'dpo' has no training with seed 7 to match; its training seeds are 0, 1"
    )
    load(folder, text, "methods.1.training.seeds=[1, 7]")  # the other method's only training matches every seed
    load(folder, text, "methods.0.training.seeds=[0, 1]")


@pytest.mark.parametrize(
    ("primary", "message"),
    [
        ("{metric: alpaca_eval.length}", "metric: boards don't compare rows by 'alpaca_eval.length'; "),
        ("{comparisons: [[dpo, ipo]]}", "comparisons.0: no method 'ipo' in this recipe; "),
        ("{comparisons: [[multi-dpo, base], [dpo, dpo]]}", "comparisons.1: expected two methods, got 'dpo' against"),
        ("{margin: 0}", "margin: expected more than 0, got 0"),
        ("{axis: n}", "axis: 'n' is not varied; expected one of"),
    ],
)
def test_a_primary_question_that_no_row_answers_is_refused(folder: Path, primary: str, message: str) -> None:
    assert refused(folder, RECIPE + f"primary: {primary}\n").startswith(f"recipes/x.yaml:30: primary.{message}")
