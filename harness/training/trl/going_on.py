"""A training by TRL's DPOTrainer that goes on where an earlier round has stopped."""

from pathlib import Path
from typing import Any, NamedTuple

from harness.models.load import load_causal_lm
from harness.models.lora import round_once
from harness.recipe.policy import Policy
from harness.training.policy import disable_dropout, take_weights
from harness.training.trl.run import float32_adapters


class GoingOn(NamedTuple):
    """`adapter`: the folder of the one that is trained further; None: the policy is a whole model. `first`: the policy
    that is the reference; None: the one that this training starts from."""

    adapter: Path | None
    first: Policy | None

    def reference(self) -> Any:
        """The model that is the reference where the trainer's own, with or without its adapter, is not; else None."""
        if self.adapter is not None or self.first is None:
            return None
        model = load_causal_lm(self.first.model, self.first.revision, "float32")
        disable_dropout(model)
        return model

    def prepare(self, model: Any) -> Any:
        """Give a trainer's model its adapter's weights. Returns the model that computes the reference's
        log-probabilities now; None: the trainer's choice, which is the model without its adapter."""
        if self.adapter is None:
            return None
        float32_adapters(round_once(model))
        take_weights(model, self.adapter)
        model.eval()  # no dropout: TRL calls train() before its first step
        return model if self.first is None else None
