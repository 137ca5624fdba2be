"""Which of a method's settings are in the keys of its stages."""

from pathlib import Path

import pytest

from harness.engine.stage import Stage
from harness.pipeline.plan import Plan, PlannedRow, make_plan
from tests.a_recipe import edited, load, recipe_folder

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
    # The reference of the fine-tuned row itself is the untrained policy, as for the others.
    assert heldout(tuned).inputs["reference"].key == heldout(base).inputs["reference"].key
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
