"""A dial for the quality of a reward model: any other one, made worse by a given strength."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, ClassVar

from pydantic import Field

from harness.components import Component, RewardField, identity
from harness.group_scores import scales
from harness.protocols import Ready, RewardModel
from harness.types import Advance, Messages, PreferencePair, prompt_id


class Noisy(Component):
    """The scores of `reward`, spoilt in two ways, either of which may be 0.

    `flip`: with this probability the ranking of a prompt's responses is turned round (its scores are negated). A model
    that orders a share a of pairs rightly then orders a (1 - flip) + (1 - a) flip of them so: 0.5 at flip 0.5, the
    opposite at 1. `blur`: Gaussian noise of this many standard deviations of the prompt's own scores is added to each:
    the ranking tends to chance as it grows.

    Both are drawn from (`seed`, prompt, response) alone: a response has the same noise in whatever order it comes.
    """

    groupwise: ClassVar[bool] = True

    reward: RewardField
    flip: float = Field(0.0, ge=0, le=1)
    blur: float = Field(0.0, ge=0)
    seed: int = Field(0, ge=0)

    @property
    def parts(self) -> tuple[RewardModel, ...]:
        """The reward model that is spoilt."""
        return (self.reward,)

    def identity(self) -> dict[str, Any]:
        return {**self.model_dump(mode="json", exclude={"reward"}), "reward": identity(self.reward)}

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        """Nothing to train: `reward` is a stage of its own."""
        return {}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        prompts = [prompt_id(messages) for messages, _ in rows]
        scores = ready.parts[0](rows)
        by_prompt = scales(prompts, scores)
        return [
            None if score is None else self._spoilt(score, prompt, text, by_prompt[prompt].sd)
            for prompt, (_, text), score in zip(prompts, rows, scores, strict=True)
        ]

    def _spoilt(self, score: float, prompt: str, text: str, spread: float) -> float:
        sign = -1.0 if _uniform(self.seed, "flip", prompt) < self.flip else 1.0
        noise = NormalDist().inv_cdf(_uniform(self.seed, "blur", prompt, text)) if self.blur else 0.0
        return sign * score + self.blur * spread * noise


def _uniform(*parts: object) -> float:
    """In (0, 1), from what it is for."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return (int.from_bytes(digest[:6]) + 0.5) / 2**48
