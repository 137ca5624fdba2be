"""Checkpoints: the policy that a training starts from, the folder that it writes, and how a row's model is loaded."""

from dataclasses import dataclass
from typing import Any, Literal

from harness.engine.stage import Context, Stage
from harness.engine.store import Artifact
from harness.models.load import Dtype, load_causal_lm, with_adapter
from harness.recipe.recipe import Policy
from harness.recipe.training import Training

CHECKPOINT = "checkpoint"
"""Folder of the trained policy in a training's artifact: a whole model or a PEFT adapter, with its tokenizer."""


def starting_policy(policy: Policy, sft: Artifact | None) -> Policy:
    """The model that a method's training starts from, which is also its reference: the recipe's policy, or the `sft`
    stage's fine-tuned model."""
    if sft is None:
        return policy
    return policy.model_copy(update={"model": str(sft.folder / CHECKPOINT), "revision": None})


def scoring_dtype(policy: Policy, training: Training) -> Dtype:
    """The dtype for computing log-probabilities: that of training, so that policy and reference agree before the first
    step. Whole models are trained in float32."""
    return policy.dtype if training.lora else "float32"


def scoring_bits(training: Training) -> Literal[4, 8] | None:
    """The bits of the quantised base that is trained; None if not quantised. Scoring uses the same base."""
    return training.lora.bits if training.lora else None


@dataclass(frozen=True)
class RowModel:
    """The model behind a row: the recipe's policy, fine-tuned by the stage `sft` and trained by the stage `trained`, if
    any. `bits`: of the quantised base that its adapter was trained on."""

    policy: Policy
    trained: Stage | None = None
    sft: Stage | None = None
    bits: Literal[4, 8] | None = None

    @property
    def inputs(self) -> dict[str, Stage]:
        """The inputs, by role, of a stage that loads this model."""
        stages = {"policy": self.trained, "sft": self.sft}
        return {role: stage for role, stage in stages.items() if stage}

    def load(self, ctx: Context, dtype: Dtype) -> Any:
        """The model, from the inputs of the running stage. An adapter is loaded on the policy that the recipe names,
        revision included, rather than on the base that its configuration names."""
        start = starting_policy(self.policy, ctx.inputs.get("sft"))
        folder = ctx.inputs["policy"].folder / CHECKPOINT if self.trained else None
        if folder is not None and not (folder / "adapter_config.json").exists():
            return load_causal_lm(str(folder), None, dtype, self.bits)
        model = load_causal_lm(start.model, start.revision, dtype, self.bits)
        return model if folder is None else with_adapter(model, folder)
