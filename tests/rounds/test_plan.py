"""Recipes with rounds: their plans, what they share with the plan of one round, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from harness.engine.stage import Stage
from harness.pipeline.plan import Plan, make_plan
from harness.pipeline.study import make_study_plan
from harness.recipe.load import load_study
from tests.a_recipe import RECIPE, edited, load, recipe_folder, refused

THREE = "rounds=3"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return recipe_folder(tmp_path)


def plan_of(folder: Path, *overrides: str, text: str = RECIPE) -> Plan:
    return make_plan(load(folder, text, *overrides))


def by_id(plan: Plan) -> dict[str, Stage]:
    return {stage.id: stage for stage in plan.stages}


def test_the_first_round_is_what_it_was(folder: Path) -> None:
    plain, plan = plan_of(folder), plan_of(folder, THREE)
    assert {stage.key for stage in plain.stages} <= {stage.key for stage in plan.stages}
    assert [row.id for row in plan.rows] == [
        "base",
        *("dpo", "dpo.round-2", "dpo.round-3"),
        *("multi-dpo", "multi-dpo.round-2", "multi-dpo.round-3"),
    ]
    assert {stage.key for stage in plan_of(folder, "rounds=1").stages} == {stage.key for stage in plain.stages}
    assert {stage.key for stage in plan_of(folder, "rounds=2").stages} < {stage.key for stage in plan.stages}
    order = [stage.key for stage in plan.stages]
    for stage in plan.stages:
        assert all(order.index(before.key) < order.index(stage.key) for before in stage.inputs.values()), stage.id


def test_a_round_samples_from_the_policy_of_the_one_before(folder: Path) -> None:
    stages = by_id(plan_of(folder, THREE))
    for method in ("dpo", "multi-dpo"):
        for number, before in ((2, method), (3, f"{method}.round-2")):
            row = f"{method}.round-{number}"
            responses, trained = stages[f"responses/{row}"], stages[f"train/{row}"]
            assert responses.inputs["policy"].key == stages[f"train/{before}"].key
            (source,) = responses.params["sources"]
            assert source["generator"]["trained"] == stages[f"train/{before}"].key
            assert trained.inputs["previous"].key == stages[f"train/{before}"].key
            assert trained.inputs["ranked"].key == stages[f"ranked/{row}"].key
            assert stages[f"ranked/{row}"].inputs["responses"].key == responses.key
            assert stages[f"ranked/{row}"].inputs["reward"].key == stages["reward"].key
            assert responses.estimate().generated_tokens > 0
            assert trained.estimate().trained_tokens == stages[f"train/{method}"].estimate().trained_tokens
            assert "previous" not in stages[f"reference/{row}"].inputs  # the reference is the policy before all
            # The held-out figures of all rounds are about the same responses, with the same reference.
            ours, theirs = stages[f"heldout/{row}"].inputs, stages[f"heldout/{method}"].inputs
            assert {r: ours[r].key for r in ("ranked", "reference")} == {
                r: theirs[r].key for r in ("ranked", "reference")
            }


def test_the_reference_may_be_the_previous_policy(folder: Path) -> None:
    stages = by_id(plan_of(folder, "rounds={count: 3, reference: previous}"))
    reference = stages["reference/dpo.round-3"]
    assert reference.inputs["previous"].key == stages["train/dpo.round-2"].key
    assert reference.exclusive != stages["reference/dpo.round-2"].exclusive  # their scores are kept apart
    trl = edited("{id: dpo, loss: {name: dpo_best_worst, beta: 0.1}}", "{id: dpo, engine: trl, loss: {name: sigmoid}}")
    keys = {
        name: by_id(plan_of(folder, f"rounds={{count: 2, reference: {name}}}", text=trl))["train/dpo.round-2"].key
        for name in ("first", "previous")
    }
    assert len(set(keys.values())) == 2


def test_earlier_rounds_are_replayed(folder: Path) -> None:
    stages = by_id(plan_of(folder, "rounds={count: 3, replay: 0.25}", "data.pairs=best_worst"))
    replay = stages["replay/dpo.round-3"]
    expected = {
        "ranked": "pairs/dpo.round-3",
        "round-1": "pairs",
        "round-2": "pairs/dpo.round-2",
    }
    assert {role: stage.id for role, stage in replay.inputs.items()} == expected
    assert stages["train/dpo.round-3"].inputs["ranked"].key == replay.key
    tokens = [stages[f"train/{row}"].estimate().trained_tokens for row in ("dpo", "dpo.round-2")]
    assert tokens[1] * 14 == tokens[0] * 19  # 14 prompts of its own (6 seeds, 8 new), and round(14 / 3) others


def test_checkpoints_budgets_and_seeds_are_those_of_each_round(folder: Path) -> None:
    overrides = ("methods.1.match=steps", "training.seeds=[1, 2]", "evaluation.checkpoints=[0.5, 1.0]")
    plan = plan_of(folder, "rounds=2", *overrides, "methods.1.training={}")
    rows = {row.id: row for row in plan.rows}
    row = rows["multi-dpo.seed-2.round-2"]
    assert row.policy
    assert row.policy.inputs["match"].id == "train/dpo.seed-2.round-2"
    assert row.matched
    assert row.matched.id == "dpo.seed-2.round-2"
    point = rows["dpo.seed-1.round-2.at-0.5"]
    assert point.policy
    assert point.policy.key != rows["dpo.seed-2.round-2"].policy.key  # type: ignore[union-attr]


def test_new_prompts_follow_on_those_of_the_rounds_before(folder: Path) -> None:
    new = ("rounds={count: 3, prompts: new}", "data.responses.seed_prompts=2", "data.generated_per_seed=1")
    stages = by_id(plan_of(folder, *new))
    same = by_id(plan_of(folder, "rounds=3", *new[1:]))
    assert stages["responses"].key == same["responses"].key
    assert stages["responses/dpo.round-2"].key != same["responses/dpo.round-2"].key
    assert stages["responses/dpo.round-2"].inputs["prompts"].id == "prompts"
    assert same["responses/dpo.round-2"].inputs["prompts"].id == "share"
    wanted = refused(folder, RECIPE, new[0], "data.responses.seed_prompts=3", "data.generated_per_seed=1")
    assert "3 rounds with 3 new seed prompts each need 9, and there are 6" in wanted


def test_an_engine_samples_all_rounds_with_one_server(folder: Path) -> None:
    text = RECIPE.replace(
        """    generator:
      name: hf
      model: smollm2-135m-instruct
""",
        "    generator: {name: openai, engine: big}\n",
    )
    engine = "{name: command, model: smollm2-135m-instruct, command: [python, '{port}']}"
    stages = by_id(plan_of(folder, THREE, f"runtime.engines={{big: {engine}}}", text=text))
    first, second = (stages[f"responses/dpo.round-{n}"].engines for n in (2, 3))
    assert first == second
    assert first[0].engine.options["max_lora_rank"] == 8


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (["data.prompts=null", "data.responses=null", "data.reward=null"], "give data.responses and data.reward"),
        (["methods=[]"], "there are no `methods`"),
        (["data.responses.generator.model=smollm2-360m-instruct"], "the trained policy takes the place of"),
        (["training.merge=true"], "rounds go on with adapters"),
        (["gates=[{row: dpo, baseline_row: base}]"], "'dpo' is the first of 3 rounds; expected 'dpo.round-3'"),
        (["rounds={count: 3, prompts: new}"], "expected a number in data.responses.seed_prompts"),
        (
            ["rounds={count: 3, prompts: new}", "data.responses.seed_prompts=2"],
            "expected data.generated_per_seed",
        ),
        (["methods.1.id=dpo.round-2"], "is the row of a round of 'dpo'"),
        (["rounds=0"], "expected at least 1, got 0"),
        (["rounds=yes"], "expected"),
        (["rounds={count: 3, replay: 1}"], "less than 1"),
        (["rounds={count: 3, reference: last}"], "'first' or 'previous'"),
    ],
)
def test_what_does_not_fit_is_one_line(folder: Path, edits: list[str], message: str) -> None:
    assert message in refused(folder, RECIPE, THREE, *edits)


def test_a_row_of_a_later_round_can_be_gated(folder: Path) -> None:
    load(folder, RECIPE, THREE, "gates=[{row: dpo.round-3, baseline_row: dpo, metric: alpaca_eval.win_rate}]")
    assert "no row 'dpo.round-4'" in refused(folder, RECIPE, THREE, "gates=[{row: dpo.round-4, baseline_row: base}]")


def test_a_sweep_over_rounds_has_each_round_once(folder: Path) -> None:
    (folder / "x.yaml").write_text(RECIPE + "sweep: {grid: {rounds: [1, 2, 3]}}\n")
    plan = make_study_plan(load_study(Path("recipes/x.yaml")))
    places: dict[str, Any] = {m.row.id: [cell.settings["rounds"] for cell in m.stands_in] for m in plan.rows}
    assert places == {
        "base": ["1", "2", "3"],
        "dpo": ["1"],
        "multi-dpo": ["1"],
        "dpo.round-2": ["2"],
        "multi-dpo.round-2": ["2"],
        "dpo.round-3": ["3"],
        "multi-dpo.round-3": ["3"],
    }
    assert len(plan.stages) == len(make_plan(plan.study.cells[2].recipe).stages)
