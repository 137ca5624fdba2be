"""What a recipe's board will compare, known before the run."""

from collections.abc import Sequence
from typing import NamedTuple

from harness.claims.primary import LC, OFFICIAL, UNPENALISED
from harness.components import identity
from harness.errors import RecipeError
from harness.figures import GOLD_REWARD, HELDOUT, Figure
from harness.recipe.evaluation import Evaluation
from harness.recipe.recipe import BASE, Recipe
from harness.stats.paired import ALPHA


class Subject(NamedTuple):
    """What a run is for: its primary figure, the number of that figure's benchmark, the pairs that are compared, and
    how many of each pair are trained. `evaluation`: the recipe's."""

    figure: Figure
    benchmark: int
    pairs: tuple[tuple[str, str], ...]
    trained: int
    evaluation: Evaluation

    @property
    def level(self) -> float:
        """The confidence level of a comparison at the first step of Holm's correction."""
        return 1 - ALPHA / len(self.pairs)


def subject_of(recipe: Recipe) -> Subject:
    """What a recipe compares, as its board will (see `harness.claims.primary`). Raises RecipeError for a recipe that
    trains nothing or asks no benchmark."""
    where = f"recipe {recipe.name}"
    if not recipe.methods or recipe.evaluation is None:
        missing = "evaluation" if recipe.methods else "methods"
        raise RecipeError(f"{where}: power is about methods that a benchmark compares, and it has no {missing}")
    first, *others = (method.id for method in recipe.methods)
    pairs = [(other, first) for other in others] or [(first, BASE)]
    if recipe.primary and recipe.primary.comparisons:
        pairs = list(recipe.primary.comparisons)
    wanted = recipe.primary.metric if recipe.primary else None
    if wanted is not None and wanted.startswith(f"{HELDOUT}."):
        raise RecipeError(f"{where}: primary.metric is {wanted}, and power is about figures of a benchmark")
    figures = figures_of(recipe.evaluation)
    compared = [metric for metric, (figure, _) in figures.items() if figure.compared]
    metric = wanted or _default(recipe.evaluation, compared)
    if metric == GOLD_REWARD.metric and metric not in compared:
        raise RecipeError(
            f"{where}: {metric} is the mean over {len(recipe.evaluation.benchmarks)} benchmarks, and power is about "
            "the prompts of one; leave one in, as with --set 'evaluation.benchmarks=[...]'"
        )
    if metric not in compared:
        raise RecipeError(f"{where}: boards compare no rows by the figures of its benchmarks")
    figure, benchmark = figures[metric]
    trained = max(2 - (other == BASE) for _, other in pairs)
    return Subject(figure, benchmark, tuple(pairs), trained, recipe.evaluation)


def figures_of(evaluation: Evaluation) -> dict[str, tuple[Figure, int]]:
    """The figures of all benchmarks by metric, in a board's order, each with its benchmark's number; of a single
    benchmark also gold's, which is about all answers."""
    figures = [(figure, i) for i, b in enumerate(evaluation.benchmarks) for figure in b.figures_of(identity(b))]
    if evaluation.gold_reward and len(evaluation.benchmarks) == 1:
        figures.append((GOLD_REWARD, 0))
    return {figure.metric: (figure, i) for figure, i in sorted(figures, key=lambda found: found[0].group.casefold())}


def _default(evaluation: Evaluation, compared: Sequence[str]) -> str | None:
    """The metric that a board takes unasked."""
    official = any(identity(benchmark).get("lc_glm") in OFFICIAL for benchmark in evaluation.benchmarks)
    preferred = [LC if official else UNPENALISED, "alpaca_eval.win_rate", *(m for m in compared if m != LC)]
    return next((metric for metric in preferred if metric in compared), None)
