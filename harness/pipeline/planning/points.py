"""Which checkpoints of a training are rows of the board, besides its last one."""

import math

from harness.errors import RecipeError
from harness.recipe.arms import Arm
from harness.recipe.evaluation import Checkpoints
from harness.recipe.sizes import Sizes
from harness.recipe.training import Point
from harness.recipe.trl_loss import TrlLoss


def points_of(arm: Arm, matched: Arm | None, checkpoints: Checkpoints | None, sizes: Sizes) -> tuple[Point, ...]:
    """The checkpoints of a training, in order. Raises RecipeError where `every` asks for a number of them that is too
    large, or unknown before another training has ended."""
    if checkpoints is None:
        return ()
    if checkpoints.every is None:
        return checkpoints.points(0)
    counted = arm
    if matched is not None:
        if arm.method.match != "steps":
            raise RecipeError(
                f"evaluation.checkpoints: the number of steps of '{arm.id}' is unknown before '{matched.id}', whose "
                f"{arm.method.match} it gets, is trained; give shares, such as [0.25, 0.5, 1.0]"
            )
        counted = matched
    try:
        return checkpoints.points(planned_steps(counted, sizes))
    except ValueError as error:
        raise RecipeError(f"evaluation.checkpoints: '{arm.id}': {error}") from None


def planned_steps(arm: Arm, sizes: Sizes) -> int:
    """The optimizer steps of a training, if none of its prompts is left out."""
    rows = sizes.trained_prompts
    if isinstance(loss := arm.method.loss, TrlLoss):
        rows *= loss.pairs_of(sizes.trained_responses)
    return math.ceil(arm.training.epochs * math.ceil(rows / arm.training.batch_size))
