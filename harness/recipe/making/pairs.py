"""`data.pairs`: which of a prompt's scored responses are trained on, for every method alike."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from harness.types import RecipeSection

Selection = Literal["all", "best_worst", "mean_minus_2sd", "top_k", "subset", "delta"]
COUNTED = ("top_k", "subset")
"""Selections of `k` responses."""


class Pairs(RecipeSection):
    """Which of a prompt's scored responses are trained on. What is selected is again a ranked dataset, with fewer
    responses, so that losses on pairs and on whole rankings get the same.

    `best_worst`: the best and the worst. `mean_minus_2sd`: the best, and of those that score less the one nearest to
    the mean of all scores minus two standard deviations (2502.16825). `top_k`: the `k` best. `subset`: `k` from the
    best to the worst, whose scores are as far apart as can be. `delta`: the order is that of the models in `sources`,
    from the strongest to the weakest, whatever the scores (2507.06187, and OLMo 3): all answers of one model are tied,
    and answers of others are left out. A name with `*` stands for several (`*32B*`).

    `length_gap`: only responses whose lengths differ by at most so many tokens of the policy, the best among them; the
    selection is made of these. `margin`: of what is selected, only responses whose scores differ by at least so much.
    Prompts with fewer than two different scores left are dropped, and counted by reason."""

    name: Selection = "all"
    """How responses are selected."""
    k: int | None = Field(None, ge=2)
    """The number of responses that `top_k` selects."""
    sources: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """The models of `delta`, from the strongest to the weakest, whose order is that of their answers."""
    length_gap: int | None = Field(None, ge=0)
    margin: float | None = Field(None, gt=0)

    @field_validator("sources")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("expected each source once, from the strongest to the weakest")
        return value

    @model_validator(mode="after")
    def _fits(self) -> "Pairs":
        if (self.name in COUNTED) != (self.k is not None):
            raise ValueError(f"k is for {' and '.join(COUNTED)}: " + ("leave it out" if self.k else "give it"))
        if (self.name == "delta") != (len(self.sources) > 1):
            wanted = "two or more sources" if self.name == "delta" else "no sources, which are for delta"
            raise ValueError(f"{self.name}: expected {wanted}")
        if self.name == "delta" and self.margin is not None:
            raise ValueError("delta takes the order from the sources, not from the scores: leave out margin")
        return self

    @property
    def selects(self) -> bool:
        """Whether anything may be left out."""
        return self.name != "all" or self.length_gap is not None or self.margin is not None

    @property
    def fixed(self) -> bool:
        """Whether a prompt that is kept keeps as many responses as it can, whatever the texts and scores are."""
        return self.length_gap is None and self.margin is None and self.name != "delta"

    def most_responses(self, n: int) -> int:
        """The largest number of responses that are kept of `n`."""
        if self.name in ("best_worst", "mean_minus_2sd"):
            return min(n, 2)
        return n if self.k is None else min(n, self.k)

    def identity(self) -> dict[str, Any]:
        """Its part of a stage key."""
        given = self.model_dump(mode="json", exclude_none=True)
        return {name: value for name, value in given.items() if value != []}


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


PairsField = Annotated[Pairs, BeforeValidator(_named)]
"""Pairs as a mapping, or the name of a selection alone."""
