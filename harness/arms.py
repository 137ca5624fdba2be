"""The trainings of a recipe, one a row of the board: which methods, with which training seeds."""

from typing import NamedTuple

from harness.recipe import Method, Recipe, Training
from harness.recipe_problems import Problem


class Arm(NamedTuple):
    """One training of a method. `seed`: one of the method's training seeds; None where it has none of its own, is
    trained once with the recipe's seed, and its row has the method's id."""

    id: str
    method: Method
    training: Training
    seed: int | None


def arms_of(recipe: Recipe) -> list[Arm]:
    """All trainings, in the recipe's order. Raises pydantic's ValidationError for a method's wrong training fields."""
    found = []
    for method in recipe.methods:
        training = recipe.training_of(method)
        if training.seeds is None:
            found.append(Arm(method.id, method, training, None))
        else:
            found += [Arm(f"{method.id}.seed-{seed}", method, training, seed) for seed in training.seeds]
    return found


def problems(recipe: Recipe) -> list[Problem]:
    """What is wrong with the methods taken together."""
    return _same_ids(recipe)


def _same_ids(recipe: Recipe) -> list[Problem]:
    """A method's own id that is also another's with its training seed."""
    seeded = {arm.id: arm for arm in arms_of(recipe) if arm.seed is not None}
    found = []
    for i, method in enumerate(recipe.methods):
        if arm := seeded.get(method.id):
            message = f"'{method.id}' is the row of '{arm.method.id}' with training seed {arm.seed}; rename one of them"
            found.append(Problem(("methods", i, "id"), message))
    return found
