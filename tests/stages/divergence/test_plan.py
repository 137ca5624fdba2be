"""`evaluation.kl` in a plan: which rows are measured, what it costs, and that it changes no other stage."""

from pathlib import Path
from typing import Any

import pytest

from harness.errors import RecipeError
from harness.pipeline.plan import Plan, make_plan
from harness.recipe.recipe import Recipe


def recipe(model: Path, *, trains: bool = True, **evaluation: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "x",
            "policy": {"model": str(model), "dtype": "float32"},
            "data": {"seeds": [{"name": "builtin", "limit": 20}], "holdout": 0.25},
            "methods": [{"id": "dpo", "loss": {"name": "dpo_adjacent", "beta": 0.1}}] if trains else [],
            "training": {"lora": {"r": 4}, "sft": {"epochs": 1}} if trains else {},
            "evaluation": {
                "judge": {"name": "local", "model": str(model)},
                "benchmarks": [{"name": "alpaca_eval", "prompts": "builtin", "reference": "base", "limit": 5}],
                "answers": {"max_new_tokens": 40},
                "checkpoints": [0.5],
                **evaluation,
            },
        }
    )


def keys(plan: Plan) -> dict[str, str]:
    return {stage.id: stage.key for stage in plan.stages}


def test_it_adds_a_stage_to_each_trained_row_and_changes_no_key(tiny_model: Path) -> None:
    plain, measured = make_plan(recipe(tiny_model)), make_plan(recipe(tiny_model, kl=True))
    added = {name: key for name, key in keys(measured).items() if keys(plain).get(name) != key}
    assert sorted(added) == ["kl/dpo", "kl/dpo.at-0.5", "kl/sft"]
    assert len(set(added.values())) == 3
    assert keys(plain).items() <= keys(measured).items()
    assert next(row.kl for row in measured.rows if row.id == "base") is None
    by_id = {stage.id: stage for stage in measured.stages}
    # 5 answers of 40 tokens behind 256 of a question, through both models.
    assert by_id["kl/dpo"].estimate().scored_tokens == 2 * 5 * (256 + 40)
    assert sum(load.tokens for load in by_id["kl/dpo"].estimate().loads) == 2 * 5 * (256 + 40)


@pytest.mark.parametrize("fields", [{"checkpoints": None, "kl": True}, {}])
def test_nothing_to_measure_is_said_in_one_line(fields: dict[str, Any], tiny_model: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        make_plan(recipe(tiny_model, trains=False, **fields))
    field = "kl" if fields else "checkpoints"
    assert str(caught.value) == (
        f"evaluation.{field}: this is about trained policies, and there are no `methods`; give them, or remove it"
    )
