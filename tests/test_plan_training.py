"""What of a method is in its stages' keys."""

from pathlib import Path

import pytest

from harness.plan import Plan, make_plan
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


def test_a_row_of_trl_names_its_loss_and_leaves_the_others_alone(folder: Path) -> None:
    plain = plan_of(folder)
    plan = plan_of(folder, "{id: dpo, engine: trl, loss: {name: sigmoid, beta: 0.1}}")
    assert [row.method for row in plan.rows] == ["base", "trl:sigmoid", "mdpo_linear"]
    assert keys(plan, 0) == keys(plain, 0)
    assert keys(plan, 2) == keys(plain, 2)
    assert not set(keys(plan, 1)) & set(keys(plain, 1))
    (trained,) = [stage for stage in plan.stages if stage.id == "train/dpo"]
    assert set(trained.inputs) == {"ranked"}
    assert plan.rows[1].heldout.inputs["reference"].key == plain.rows[1].heldout.inputs["reference"].key
    assert trained.estimate().trained_tokens > 0
    listed = plan_of(folder, "{id: dpo, engine: trl, loss: {name: [sigmoid, sft], loss_weights: [1, 0.1]}}")
    assert listed.rows[1].method == "trl:sigmoid+sft"


def test_a_forward_s_size_is_in_the_key_only_of_losses_that_see_a_whole_forward(folder: Path) -> None:
    def key(name: str, micro: int) -> str:
        method = f"{{id: dpo, engine: trl, loss: {{name: {name}}}}}"
        return keys(plan_of(folder, method, f"runtime.micro_batch_size={micro}"), 1)[0]

    assert key("sigmoid", 1) == key("sigmoid", 2)
    assert key("aot", 1) != key("aot", 2)
