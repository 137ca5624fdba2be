"""`rounds`: on-policy training in several rounds, each on responses of the policy that the round before has trained."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from harness.protocols import Generator
from harness.recipe.data import ResponseGeneration
from harness.recipe.policy import Policy
from harness.servers.adapting.continuing import Continuing
from harness.types import RecipeSection

MOST_ROUNDS = 20
TAKE_ADAPTERS = ("vllm", "command")
"""Kinds of engines that load adapters and read token ids."""


class Rounds(RecipeSection):
    """`count` rounds of every training. The first is as without rounds. In each later one the policy of the round
    before answers where the recipe's generator is the untrained policy; the same reward model scores the responses;
    and training goes on from that policy, with a new optimizer and schedule.

    `reference`: of the loss, the policy before the `first` round or that of the `previous` one. `replay`: the share of
    a round's training prompts that are examples of earlier rounds, drawn at random; less where there are too few.
    `prompts`: the `same` in each round, or `new` ones: as many as in the first round, those that follow in the seed and
    among the new prompts. A number alone is the count."""

    count: int = Field(ge=1, le=MOST_ROUNDS)
    """The number of rounds of every training."""
    reference: Literal["first", "previous"] = "first"
    replay: float = Field(0.0, ge=0, lt=1)
    prompts: Literal["same", "new"] = "same"

    def replayed(self, number: int, own: int) -> int:
        """How many examples of earlier rounds round `number` trains on beside `own` ones of its own, if each round has
        as many."""
        return min(round(self.replay / (1 - self.replay) * own), (number - 1) * own)


def _number_alone(value: Any) -> Any:
    return {"count": value} if isinstance(value, int) else value


RoundsField = Annotated[Rounds, BeforeValidator(_number_alone)]
"""Rounds as a mapping, or their number alone."""


def round_row(row: str, number: int) -> str:
    """The id of the row of a round: `dpo` is the first, whatever their number, then `dpo.round-2`."""
    return row if number == 1 else f"{row}.round-{number}"


def is_policys(generator: Generator, policy: Policy) -> bool:
    """Whether a generator samples from the untrained policy, and a trained one can take its place: in process by `hf`,
    or by an engine that takes adapters."""
    if isinstance(generator, Continuing):
        engine = generator.engine.engine if generator.engine else None
        return engine is not None and engine.name in TAKE_ADAPTERS and engine.model in (policy.model, None)
    fields = dict(generator)
    return generator.name == "hf" and (fields["model"], fields["revision"]) == (policy.model, policy.revision)


def policys_sources(config: ResponseGeneration, policy: Policy) -> list[Generator]:
    """The generators of responses that are the untrained policy."""
    return [s.generator for s in config.sources_of(config.n) if is_policys(s.generator, policy)]
