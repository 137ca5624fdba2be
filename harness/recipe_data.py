"""The recipe's `data`: seed sets, new prompts, responses, and the reward model that ranks them."""

from typing import Annotated

from pydantic import Field, model_validator

from harness.components import GeneratorField, RewardField, SeedField
from harness.pairs_file import Holdout
from harness.recipe_training import Section


class PromptGeneration(Section):
    """New prompts: the generator is shown `shots` seed prompts and writes one more like them."""

    generator: GeneratorField
    count: int = Field(ge=1)
    shots: int = Field(6, ge=1, le=32)
    temperature: float = Field(0.7, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_new_tokens: int = Field(64, ge=4)
    max_similarity: float = Field(0.8, gt=0, le=1)
    """A new prompt whose similarity to any seed or accepted prompt is above this is dropped (0 none, 1 the same)."""
    max_attempts: int = Field(8, ge=1)
    """Rounds of generation before the stage gives up short of `count`."""


class ResponseGeneration(Section):
    """N responses a prompt. With `seed_prompts` (true: all of them; a number: the first so many), the seed's training
    prompts are ranked too: their chosen and rejected answers stand among the N, and the rest is sampled."""

    generator: GeneratorField
    n: int = Field(4, ge=2, le=64)
    temperature: float = Field(0.9, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(256, ge=1)
    seed_prompts: bool | Annotated[int, Field(ge=1)] = True


class Data(Section):
    """The augmentation: seed pairs, new prompts, responses, and the reward model that ranks them. Without `responses`
    and `reward` there is none: the ranked dataset is the seed's own pairs."""

    seeds: list[SeedField] = Field(min_length=1)
    holdout: Holdout = 0.2
    train_limit: int | None = Field(None, ge=1)
    """Of the seed's pairs that are not held out, the first so many are kept; what is held out stays the same."""
    prompts: PromptGeneration | None = None
    responses: ResponseGeneration | None = None
    reward: RewardField | None = None

    @model_validator(mode="after")
    def _whole_or_none(self) -> "Data":
        own = "leave out prompts, responses and reward to train on the seed's own pairs"
        if self.responses is None and (self.reward is not None or self.prompts is not None):
            given = "reward" if self.reward is not None else "prompts"
            why = "scores them" if given == "reward" else "are answered by them"
            raise ValueError(f"`responses` is missing, and `{given}` {why}: give it, or {own}")
        if self.responses is not None and self.reward is None:
            raise ValueError(f"`reward` is missing, and `responses` are ranked by it: give it, or {own}")
        return self

    @model_validator(mode="after")
    def _some_prompts(self) -> "Data":
        if self.responses is not None and self.prompts is None and not self.responses.seed_prompts:
            raise ValueError("no prompts to rank: give `prompts`, or set responses.seed_prompts to true")
        return self
