"""What all trainings of a recipe share, and which settings a training's result depends on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.engine.stage import Estimate
from harness.errors import ModelError
from harness.models.demand.loads import loading
from harness.models.demand.training import Training as Load
from harness.models.processor import bfloat16_here
from harness.recipe.policy import Policy
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

    def within_memory(self, training: Training) -> Training:
        """The training's settings with what `runtime.memory` adds to them."""
        more = {"gradient_checkpointing": True} if self.runtime.memory == "checkpointed" else {}
        return training.model_copy(update=more)

    @contextmanager
    def enough_memory(self, training: Training, stage: str, engine: Engine = "harness") -> Iterator[None]:
        """Raises ModelError, with what to do next, if the training in stage `stage` runs out of memory."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            from harness.models.batching import is_out_of_memory

            if not is_out_of_memory(error):
                raise
            smaller = "runtime.micro_batch_size: 1, or " if self.runtime.micro_batch_size > 1 else ""
            advice = f"{smaller}{self._next_mode(training, engine)}"
            raise ModelError(f"{stage}: out of memory; finished work is kept. Set {advice}") from None

    def _next_mode(self, training: Training, engine: Engine) -> str:
        """The setting that needs less memory than the present one."""
        if self.runtime.memory == "one_response" and engine == "harness":
            checkpoints = "training.gradient_checkpointing, or "
            return f"{'' if training.gradient_checkpointing else checkpoints}a smaller training.max_length"
        if not self.within_memory(training).gradient_checkpointing:
            return "runtime.memory: checkpointed"
        return "runtime.memory: one_response" if engine == "harness" else "a smaller training.max_length"

    def estimate(self, tokens: int, training: Training, responses: int, engine: Engine = "harness") -> Estimate:
        """The cost of training on `tokens` response tokens, so many responses a row. The harness's own trainer computes
        a prompt once for all of its responses."""
        sizes, longest = self.sizes, self.sizes.longest(training)
        prompts = tokens / (sizes.trained_responses * max(1, sizes.longest_response)) * sizes.pair_tokens / 2
        launch = self.runtime.launch.accelerate if self.runtime.launch and engine == "harness" else None
        rows = self.runtime.micro_batch_size
        if engine == "trl":
            rows, responses = rows * responses, 1  # each response has its prompt
        load = Load(
            self.policy.model,
            tokens + prompts,
            longest.prompt + responses * longest.response,
            rows,
            self.policy.dtype,
            launch.processes if launch else 1,
            launch is not None and launch.is_sharded,
            rank=training.lora.r if training.lora else None,
            bits=training.lora.bits if training.lora else None,
            checkpointed=self.within_memory(training).gradient_checkpointing,
            one_response=sum(longest) if self.runtime.memory == "one_response" and engine == "harness" else None,
        )
        return Estimate(trained_tokens=tokens, loads=(load,), waiting=loading([self.policy.model]))


def training_identity(training: Training, engine: Engine = "harness") -> dict[str, Any]:
    """The training settings in a stage key. Excluded: `sft` and `reference`, which inputs of the stage follow from;
    `seeds`, one of which is the stage's seed; `merge` without adapters; and for TRL `save_every` and `all_responses`,
    which its trainers ignore."""
    exclude = {"sft", "seeds", "reference"} | ({"save_every", "all_responses"} if engine == "trl" else set())
    exclude |= set() if training.lora else {"merge"}
    return training.model_dump(mode="json", exclude=exclude)


def products_identity(policy: Policy, training: Training) -> dict[str, str]:
    """The part of a key that says in which dtype whole models in float32 are multiplied, where it isn't float32: that
    depends on the machine (`autocast_dtype`)."""
    half = training.lora is None and policy.dtype != "float32" and bfloat16_here().good
    return {"products": "bfloat16"} if half else {}
