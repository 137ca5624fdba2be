"""Which of a method's settings are in the keys of its stages."""

from pathlib import Path
from typing import Any

import pytest

from harness.engine.stage import Stage
from harness.pipeline.plan import Plan, make_plan
from harness.pipeline.planning.row import PlannedRow
from harness.recipe.load import load_study
from tests.a_recipe import edited, load, recipe_folder
from tests.stand_ins import record_processor

DPO = "{id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return recipe_folder(tmp_path)


def plan_of(folder: Path, method: str = DPO, *overrides: str) -> Plan:
    return make_plan(load(folder, edited(DPO, method), *overrides))


def keys(plan: Plan, row: int) -> list[str]:
    return [stage.key for stage in plan.rows[row].stages]


def heldout(row: PlannedRow) -> Stage:
    assert row.heldout
    return row.heldout


def test_a_row_of_trl_names_its_loss_and_leaves_the_others_alone(folder: Path) -> None:
    plain = plan_of(folder)
    plan = plan_of(folder, "{id: dpo, engine: trl, loss: {name: sigmoid, beta: 0.1}}")
    assert [row.method for row in plan.rows] == ["base", "trl:sigmoid", "mdpo_linear"]
    assert keys(plan, 0) == keys(plain, 0)
    assert keys(plan, 2) == keys(plain, 2)
    assert not set(keys(plan, 1)) & set(keys(plain, 1))
    (trained,) = [stage for stage in plan.stages if stage.id == "train/dpo"]
    assert set(trained.inputs) == {"ranked"}
    assert heldout(plan.rows[1]).inputs["reference"].key == heldout(plain.rows[1]).inputs["reference"].key
    assert trained.estimate().trained_tokens > 0
    listed = plan_of(folder, "{id: dpo, engine: trl, loss: {name: [sigmoid, sft], loss_weights: [1, 0.1]}}")
    assert listed.rows[1].method == "trl:sigmoid+sft"


def test_the_forward_size_is_in_the_key_only_of_losses_that_see_a_whole_forward(folder: Path) -> None:
    def key(name: str, micro: int) -> str:
        method = f"{{id: dpo, engine: trl, loss: {{name: {name}}}}}"
        return keys(plan_of(folder, method, f"runtime.micro_batch_size={micro}"), 1)[0]

    assert key("sigmoid", 1) == key("sigmoid", 2)
    assert key("aot", 1) != key("aot", 2)


SFT = "training: {sft: {epochs: 2}}"


def test_a_fine_tuned_start_is_a_stage_and_a_row_of_its_own(folder: Path) -> None:
    plain = plan_of(folder)
    plan = plan_of(folder, f"{{id: dpo, loss: {{name: dpo_best_worst, beta: 0.1}}, {SFT}}}")
    assert [(row.id, row.method) for row in plan.rows] == [
        ("base", "base"),
        ("sft", "sft"),
        ("dpo", "dpo_best_worst"),
        ("multi-dpo", "mdpo_linear"),
    ]
    base, tuned, dpo, multi = plan.rows
    assert keys(plan, 0) == keys(plain, 0)
    assert keys(plan, 3) == keys(plain, 2)
    assert not set(keys(plan, 2)) & set(keys(plain, 1))
    assert multi.start is None
    assert dpo.start == "sft"
    assert tuned.policy is not None
    assert dpo.policy is not None
    reference = heldout(dpo).inputs["reference"]
    answers = dpo.answers["mt_bench"]
    assert {s.inputs["sft"].key for s in (reference, dpo.policy, heldout(dpo), answers)} == {tuned.policy.key}
    # The reference of the fine-tuned row itself is the untrained policy, as for the others. That one needs none.
    assert heldout(tuned).inputs["reference"].key == heldout(multi).inputs["reference"].key
    assert "reference" not in heldout(base).inputs
    assert "sft" not in heldout(tuned).inputs
    order = [stage.key for stage in plan.stages]
    for stage in plan.stages:
        assert all(order.index(before.key) < order.index(stage.key) for before in stage.inputs.values()), stage.id


def test_methods_with_equal_settings_start_from_one_model(folder: Path) -> None:
    override = "training.sft={epochs: 2}"
    plan = plan_of(folder, DPO, override)
    assert [row.id for row in plan.rows] == ["base", "sft", "dpo", "multi-dpo"]  # their own epochs differ
    assert plan.rows[2].sft is plan.rows[3].sft
    plan = plan_of(folder, DPO, override, "methods.1.training.sft={epochs: 3}")
    assert [row.id for row in plan.rows] == ["base", "sft", "sft-2", "dpo", "multi-dpo"]
    assert [row.start for row in plan.rows if row.start] == ["sft", "sft-2"]
    assert len({stage.id for stage in plan.stages if stage.name == "sft"}) == 2
    trl = "{id: dpo, engine: trl, loss: {name: sigmoid}}"
    plan = plan_of(folder, trl, override, "methods.1.training.sft=null")
    assert [row.start for row in plan.rows] == [None, None, "sft", None]


def test_fine_tuning_settings_are_in_the_key(folder: Path) -> None:
    def key(settings: str, *overrides: str) -> str:
        return keys(plan_of(folder, DPO, f"training.sft={settings}", *overrides), 1)[0]

    first = key("{epochs: 2}")
    assert key("{epochs: 2}", "training.epochs=5", "training.batch_size=2", "runtime.micro_batch_size=1") == first
    assert key("{epochs: 2, batch_size: 4}") != first
    assert key("{epochs: 2}", "training.lora={r: 4}") != first
    assert key("{epochs: 2}", "policy.dtype=bfloat16") != first


@pytest.mark.parametrize(("good", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_auto_has_the_keys_of_the_dtype_that_it_stands_for(good: bool, dtype: str, folder: Path) -> None:
    def all_keys(dtype: str) -> list[str]:
        return [stage.key for stage in plan_of(folder, DPO, f"policy.dtype={dtype}").stages]

    record_processor(good=good)
    other = {"bfloat16": "float32", "float32": "bfloat16"}[dtype]
    assert all_keys("auto") == all_keys(dtype) != all_keys(other)


def test_a_recipe_says_what_auto_stands_for_and_why(folder: Path) -> None:
    record_processor(good=True)
    (folder / "x.yaml").write_text(edited("dtype: float32", "dtype: auto"))
    (cell,) = load_study(folder / "x.yaml").cells
    assert cell.auto_dtype.startswith("dtype auto is bfloat16 here: ")
    assert " multiplies matrices 4.0 times as fast as in float32 (torch " in cell.auto_dtype
    assert cell.recipe.policy
    assert cell.recipe.policy.dtype == "bfloat16"
    every = ("policy.dtype=float32", "data.prompts.generator.dtype=float32", "data.responses.generator.dtype=float32")
    given = load_study(folder / "x.yaml", (*every, "data.reward.dtype=float32", "evaluation.judge.dtype=float32"))
    assert given.cells[0].auto_dtype == ""


@pytest.mark.parametrize("good", [True, False])
def test_the_dtype_of_products_is_in_the_keys_of_whole_models_alone(good: bool, folder: Path) -> None:
    def multiplied(dtype: str, lora: str, *overrides: str) -> dict[str, Any]:
        record_processor(good=good)
        plan = plan_of(folder, DPO, f"policy.dtype={dtype}", f"training.lora={lora}", *overrides)
        named = ("reference", "train/sft", "train/dpo", "train/multi-dpo")
        return {stage.id: stage.params.get("products") for stage in plan.stages if stage.id in named}

    whole = multiplied("bfloat16", "false", "training.sft={epochs: 1}")
    assert len(whole) == 4
    assert set(whole.values()) == {"bfloat16" if good else None}
    for others in (multiplied("bfloat16", "{r: 4}"), multiplied("float32", "false")):
        assert set(others.values()) == {None}


def references(plan: Plan) -> list[tuple[str, str, int]]:
    """The reference stages of a plan: their responses, dtype, and bits (0: not quantised)."""
    stages = [stage for stage in plan.stages if stage.name == "reference"]
    return sorted((s.params.get("heldout", "training"), s.params["dtype"], s.params.get("bits", 0)) for s in stages)


BFLOAT16 = [("pairs", "float32", 0), ("responses", "bfloat16", 0)]


@pytest.mark.parametrize(
    ("method", "policy", "needed"),
    [
        (DPO, "float32", [("training", "float32", 0)]),
        (DPO, "bfloat16", [*BFLOAT16, ("training", "bfloat16", 0)]),
        (
            "{id: dpo, loss: {name: dpo_best_worst}, training: {lora: null}}",
            "bfloat16",
            [*BFLOAT16, ("training", "bfloat16", 0), ("training", "float32", 0)],
        ),
        # Merged adapters of a quantised base answer without it.
        (
            "{id: dpo, loss: {name: dpo_best_worst}, training: {lora: {bits: 4}, merge: true}}",
            "float32",
            [("responses", "float32", 0), ("training", "float32", 0), ("training", "float32", 4)],
        ),
        (
            "{id: dpo, loss: {name: dpo_best_worst}, training: {lora: {bits: 4}}}",
            "float32",
            [("training", "float32", 0), ("training", "float32", 4)],
        ),
    ],
)
def test_held_out_figures_have_a_reference_in_the_dtype_and_on_the_base_that_answers(
    method: str, policy: str, needed: list[tuple[str, str, int]], folder: Path
) -> None:
    assert references(plan_of(folder, method, f"policy.dtype={policy}")) == needed


def test_a_reference_that_nothing_reads_is_not_computed(folder: Path) -> None:
    """TRL computes its own."""
    trl = "{id: dpo, engine: trl, loss: {name: sigmoid}}"
    both = plan_of(folder, trl, "policy.dtype=bfloat16", "methods.1={id: m, engine: trl, loss: {name: ipo}}")
    assert references(both) == BFLOAT16
