"""What a recipe asks of trainings, or of their data, that it doesn't have."""

from harness.recipe.reading.problems import Problem
from harness.recipe.recipe import Recipe


def untrained_problems(recipe: Recipe) -> list[Problem]:
    """Fields of `evaluation` that are about trained policies, or about the data, where there are none."""
    evaluation = recipe.evaluation
    if evaluation is None or recipe.methods:
        return []
    asked = {"checkpoints": evaluation.checkpoints is not None, "kl": evaluation.kl}
    message = "this is about trained policies, and there are no `methods`; give them, or remove it"
    problems = [Problem(("evaluation", field), message) for field, is_asked in asked.items() if is_asked]
    if evaluation.gold_reward is not None and recipe.data is None:
        message = "there is no `data` whose reward it could be the truth of; remove it"
        problems.append(Problem(("evaluation", "gold_reward"), message))
    return problems
