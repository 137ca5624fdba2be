"""A recipe's trainings: one per training seed, and which keys depend on the seed."""

import re
from typing import Any

import pytest

from harness.errors import RecipeError
from harness.pipeline.plan import make_plan
from harness.pipeline.planning.row import PlannedRow
from harness.recipe.arms import arms_of
from harness.recipe.recipe import Recipe


def recipe(*methods: dict[str, Any], seed: int = 5, evaluation: Any = None, **training: Any) -> Recipe:
    fields = {
        "name": "x",
        "seed": seed,
        "policy": {"model": "a/b"},
        "data": {"seeds": [{"name": "builtin", "limit": 20}]},
        "methods": [{"loss": {"name": "dpo_best_worst"}, **method} for method in methods],
        "training": training,
        "evaluation": evaluation,
    }
    return Recipe.model_validate(fields)


def rows(recipe: Recipe) -> dict[str, PlannedRow]:
    return {row.id: row for row in make_plan(recipe).rows}


def train_key(row: PlannedRow) -> str:
    assert row.policy is not None
    return row.policy.key


def test_one_training_per_seed_in_the_recipes_order() -> None:
    mixed = recipe({"id": "a"}, {"id": "b", "training": {"seeds": [7]}}, {"id": "c", "training": {"seeds": None}})
    assert [(arm.id, arm.method.id, arm.seed) for arm in arms_of(mixed)] == [
        ("a", "a", None),
        ("b.seed-7", "b", 7),
        ("c", "c", None),
    ]
    seeded = mixed.model_copy(update={"training": mixed.training.model_copy(update={"seeds": (2, 0)})})
    assert [arm.id for arm in arms_of(seeded)] == ["a.seed-2", "a.seed-0", "b.seed-7", "c"]
    assert list(rows(seeded)) == ["base", "a.seed-2", "a.seed-0", "b.seed-7", "c"]


def test_only_training_depends_on_the_training_seed() -> None:
    plan = make_plan(recipe({"id": "a"}, seeds=[0, 1, 2]))
    trained = [row for row in plan.rows if row.policy]
    assert len({train_key(row) for row in trained}) == 3
    assert len({row.heldout.inputs["ranked"].key for row in plan.rows if row.heldout}) == 1
    assert len([stage for stage in plan.stages if stage.name not in ("train", "heldout")]) == 5


def test_the_recipes_seed_as_training_seed_is_the_same_training() -> None:
    plain, seeded = rows(recipe({"id": "a"})), rows(recipe({"id": "a"}, seeds=[5, 6]))
    assert train_key(seeded["a.seed-5"]) == train_key(plain["a"]) != train_key(seeded["a.seed-6"])
    assert "seeds" not in plain["a"].policy.params["training"]  # type: ignore[union-attr]


def test_a_training_seed_does_not_depend_on_the_recipes() -> None:
    one, other = (rows(recipe({"id": "a"}, seeds=[3], seed=seed))["a.seed-3"].policy for seed in (0, 1))
    assert one is not None
    assert other is not None
    assert one.params["seed"] == other.params["seed"]
    assert one.key != other.key  # another split


def test_a_budget_comes_from_the_same_seed_or_the_only_training() -> None:
    chained = recipe(
        {"id": "a"},
        {"id": "b", "match": "tokens"},
        {"id": "c", "match": "steps", "match_to": "once"},
        {"id": "once", "training": {"seeds": None}},
        {"id": "last", "match": "prompts", "match_to": "b", "training": {"seeds": None}},
        seeds=[5, 6],
    )
    budgets = {row.id: row.matched.id for row in make_plan(chained).rows if row.matched}
    assert budgets == {
        "b.seed-5": "a.seed-5",
        "b.seed-6": "a.seed-6",
        "c.seed-5": "once",
        "c.seed-6": "once",
        "last": "b.seed-5",  # with the recipe's seed
    }


def test_a_matched_training_runs_first_and_is_part_of_the_key() -> None:
    def plan_of(**training: Any) -> Any:
        other = {"id": "z", "training": training}
        return make_plan(
            recipe(
                {"id": "a", "match": "steps", "match_to": "b"}, {"id": "b", "match": "steps", "match_to": "z"}, other
            )
        )

    plan = plan_of(epochs=2)
    assert [stage.id for stage in plan.stages if stage.name == "train"] == ["train/z", "train/b", "train/a"]
    assert [row.id for row in plan.rows] == ["base", "a", "b", "z"]
    other = plan_of(epochs=3)
    assert not {r.policy.key for r in plan.rows if r.policy} & {r.policy.key for r in other.rows if r.policy}


def test_epochs_are_in_no_key_where_a_budget_takes_their_place() -> None:
    def key(epochs: float) -> str:
        return train_key(rows(recipe({"id": "a"}, {"id": "b", "match": "tokens", "training": {"epochs": epochs}}))["b"])

    assert key(1) == key(7)


def test_a_recipe_in_python_is_checked_too() -> None:
    with pytest.raises(RecipeError, match=r"^methods\.0\.match_to: matched in a circle: a -> b -> a; "):
        make_plan(recipe({"id": "a", "match": "steps", "match_to": "b"}, {"id": "b", "match": "steps"}))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("gpt4", "evaluation.benchmarks.0.reference: no row 'gpt4' in this recipe"),
        ("bse", "did you mean 'base'?"),
        ("a.seed-9", "did you mean 'a.seed-1'?"),
        ("sft-2", "no row 'sft-2' with answers to be the reference"),
        ("base", None),
        ("sft", None),
        ("a.seed-1", None),
        ("file", None),
    ],
)
def test_a_reference_is_a_row_of_the_run(reference: str, message: str | None) -> None:
    benchmark = {"name": "alpaca_eval", "prompts": "builtin", "reference": reference}
    evaluation = {"judge": {"name": "local", "model": "a/b"}, "benchmarks": [benchmark]}
    compared = recipe({"id": "a"}, evaluation=evaluation, seeds=[0, 1], sft={"epochs": 1})
    if message is None:
        assert make_plan(compared).rows
        return
    with pytest.raises(RecipeError, match=re.escape(message)):
        make_plan(compared)
