"""Several reward models as one."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pydantic import Field, model_validator

from harness.components import RewardField, identity
from harness.protocols import Ready, RewardModel
from harness.rewards._scales import standardise
from harness.types import Advance, Messages, PreferencePair, prompt_id


class Ensemble(RewardModel):
    """Combines the scores of the reward models in `rewards` on a common scale. Each model has its own unit, and only
    differences within a prompt mean anything, so each model's scores of a prompt's responses are centred and divided by
    their standard deviation (all equal: 0). `combine`: their `mean`, weighted by `weights`; the `min` (a response must
    please all of them: 2310.02743); or the `median`. A response that one of them could not score is not scored.
    """

    rewards: tuple[RewardField, ...] = Field(min_length=2)
    """The reward models whose scores are combined."""
    combine: Literal["mean", "min", "median"] = "mean"
    weights: tuple[float, ...] | None = None
    """Of the models in the `mean`, one for each; None: all the same."""

    @model_validator(mode="after")
    def _a_weight_each(self) -> "Ensemble":
        if self.weights is not None and self.combine != "mean":
            raise ValueError(f"weights are for combine: mean, not for {self.combine}")
        if self.weights is not None and (len(self.weights) != len(self.rewards) or min(self.weights) <= 0):
            raise ValueError(f"weights: expected {len(self.rewards)} numbers above 0, one per reward model")
        return self

    @property
    def groupwise(self) -> bool:
        return True

    @property
    def parts(self) -> tuple[RewardModel, ...]:
        """The combined reward models."""
        return self.rewards

    def identity(self) -> dict[str, Any]:
        return {
            **self.model_dump(mode="json", exclude={"rewards"}),
            "rewards": [identity(part) for part in self.rewards],
        }

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        """Nothing to train: each part is a separate stage."""
        return {}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        prompts = [prompt_id(messages) for messages, _ in rows]
        scaled = [standardise(prompts, part(rows)) for part in ready.parts]
        return [self._combined(scores) for scores in zip(*scaled, strict=True)]

    def _combined(self, scores: Sequence[float | None]) -> float | None:
        values = [s for s in scores if s is not None]
        if len(values) < len(scores):
            return None
        if self.combine == "min":
            return min(values)
        if self.combine == "median":
            return median(values)
        weights = self.weights or (1.0,) * len(values)
        return sum(w * s for w, s in zip(weights, values, strict=True)) / sum(weights)
