"""The stages of a later round's data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.engine.stage import Stage
from harness.recipe.data import Data
from harness.recipe.making.rounds import Rounds
from harness.recipe.policy import Policy
from harness.recipe.recipe import Recipe
from harness.recipe.sizes import Later, Sizes
from harness.stages.making.on_policy import round_responses_stage
from harness.stages.making.pairs import pairs_stage
from harness.stages.making.replay import replay_stage
from harness.stages.ranked import ranked_stage
from harness.stages.train import Sources
from harness.training.checkpoint import RowModel


@dataclass(frozen=True)
class Trained:
    """A training of a round. `sources`: what it depends on; `own`: the examples of this round alone; `data`: the stages
    that made them, by name, empty for the first round."""

    policy: Stage
    sources: Sources
    own: Stage
    data: Mapping[str, Stage]


@dataclass(frozen=True)
class RoundData:
    """Plans what later rounds are trained on. `stages`: those of the data by name, `data` and `policy` the recipe's;
    `rank`: of the largest adapter among the rows."""

    rounds: Rounds
    recipe: Recipe
    data: Data
    policy: Policy
    stages: Mapping[str, Stage]
    rank: int | None

    def later(self, number: int) -> Later:
        """A round after the first."""
        return Later(self.rounds, number)

    def sizes(self, number: int) -> Sizes:
        """The sizes of a round's data."""
        return Sizes(self.data, self.later(number))

    def of(self, row: str, number: int, before: str, model: RowModel, earlier: Sequence[Stage]) -> dict[str, Stage]:
        """The stages of the data of a round, whose row is `row`: its responses by `model`, the policy of the row
        `before`, ranked by the recipe's reward model, what the recipe selects of them, and with them examples of
        `earlier` rounds. The last one is trained on."""
        recipe, data, later, launch = self.recipe, self.data, self.later(number), self.recipe.runtime.launch
        assert data.reward is not None
        new = self.stages.get("share", self.stages.get("prompts"))
        if self.rounds.prompts == "new":
            new = self.stages.get("prompts") if data.new_prompts else None
        prompts = self.stages["seeds"], new
        stages: dict[str, Stage] = {}

        def add(stage: Stage) -> Stage:
            named = stages[stage.name] = replace(stage, id=f"{stage.name}/{row}")
            return named

        made = round_responses_stage(data, later, before, model, prompts, recipe.seed, self.rank, self.policy.thinking)
        own = add(ranked_stage(data.reward, add(made), self.stages["reward"], self.sizes(number), launch))
        if data.selection.selects:
            own = add(pairs_stage(data.selection, self.policy, own))
        if self.rounds.replay:
            add(replay_stage(later, own, earlier, recipe.seed))
        return stages


def own_examples(data: Mapping[str, Stage]) -> Stage:
    """The stage with a round's own examples."""
    return data.get("pairs", data["ranked"])
