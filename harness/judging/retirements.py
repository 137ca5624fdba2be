"""Warnings of served models that are about to retire, or have."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

from harness.protocols import Judge
from harness.recipe.checks import components_in
from harness.recipe.recipe import Recipe
from harness.servers.prices import PriceTable, price_table
from harness.servers.served import Served

SOON = 60
"""Days ahead of which a warning is given."""


SOON_FOR_JUDGES = "; a board compares verdicts of one judge only"


def today() -> date:
    """The day, in UTC."""
    return datetime.now(UTC).date()


def retirement_lines(recipes: Sequence[Recipe], day: date) -> list[str]:
    """A line for each judge, generator or reward model of the recipes that retires within SOON days of `day`, or has
    retired, by the price tables. Raises DataError for a table that can't be read."""
    return list(dict.fromkeys(line for recipe in recipes for line in _lines(recipe, day)))


def _lines(recipe: Recipe, day: date) -> Iterator[str]:
    served = [part for _, part in components_in(recipe, ()) if isinstance(part, Served)]
    if served:
        table = price_table(recipe.evaluation.prices if recipe.evaluation else None)
        for part in served:
            if said := retirement(part.model, table, day):
                yield f"{part.role} {said}{SOON_FOR_JUDGES if isinstance(part, Judge) else ''}"


def retirement(model: str, table: PriceTable, day: date) -> str | None:
    """`gpt-4.1 retires on 2027-01-14 (in 45 days)`; None if no day is known, or it is far off."""
    found = table.retirement(model)
    if found is None or (left := (found[0] - day).days) > SOON:
        return None
    listed = "" if found[1] == model else f", by the date of {found[1]}"
    if left > 0:
        return f"{model} retires on {found[0]} (in {left} day{'s' * (left > 1)}{listed})"
    ago = "today" if left == 0 else f"{-left} day{'s' * (left < -1)} ago"
    return f"{model} retired on {found[0]} ({ago}{listed})"
