"""What all trainings of a recipe share, and which settings a training's result depends on."""

from dataclasses import dataclass
from typing import Any

from harness.engine.stage import Estimate
from harness.models.workload import TRAINING, loading, work
from harness.recipe.recipe import Policy
from harness.recipe.sizes import Sizes
from harness.recipe.training import Runtime, Training
from harness.recipe.trl_loss import Engine


@dataclass(frozen=True)
class TrainingSetup:
    """What all trainings of the recipe named `recipe` share. `seed`: the recipe's."""

    recipe: str
    policy: Policy
    runtime: Runtime
    seed: int
    sizes: Sizes

    def estimate(self, tokens: int) -> Estimate:
        """The cost of training on `tokens` response tokens. A prompt is computed once for all of its responses."""
        sizes = self.sizes
        prompts = tokens / (sizes.responses_a_prompt * max(1, sizes.longest_response)) * sizes.pair_tokens / 2
        policy = [self.policy.model]
        return Estimate(
            trained_tokens=tokens, work=work(policy, tokens + prompts, TRAINING, 6), waiting=loading(policy)
        )


def training_identity(training: Training, engine: Engine = "harness") -> dict[str, Any]:
    """The training settings in a stage key. Excluded: `sft`, an input of the stage; `seeds`, one of which is the
    stage's seed; and for TRL `save_every` and `all_responses`, which its trainers ignore."""
    exclude = {"sft", "seeds"} | ({"save_every", "all_responses"} if engine == "trl" else set())
    return training.model_dump(mode="json", exclude=exclude)
