"""Any other reward model, made worse by an adjustable amount."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

from pydantic import Field

from harness.components import RewardField, identity
from harness.protocols import Ready, RewardModel
from harness.rewards._scales import scales
from harness.types import Advance, Messages, PreferencePair, prompt_id


class Noisy(RewardModel):
    """The scores of another reward model, `reward`, with two kinds of noise, either of which may be 0.

    `flip`: with this probability the ranking of a prompt's responses is reversed (its scores are negated). A model that
    orders a share a of pairs correctly then orders a (1 - flip) + (1 - a) flip of them correctly: 0.5 at flip 0.5, the
    opposite at 1. `blur`: Gaussian noise with this many standard deviations of the prompt's own scores is added to each
    score: the more noise, the closer the ranking is to chance.

    Both depend only on (`seed`, prompt, response), so a response gets the same noise in any order.
    """

    reward: RewardField
    """The reward model whose scores get noise."""
    flip: float = Field(0.0, ge=0, le=1)
    """The probability that the ranking of a prompt's responses is reversed."""
    blur: float = Field(0.0, ge=0)
    """Standard deviations, of the prompt's own scores, of the Gaussian noise on each."""
    seed: int = Field(0, ge=0)
    """Of the noise, which also depends on prompt and response, and on nothing else."""

    @property
    def groupwise(self) -> bool:
        return True

    @property
    def parts(self) -> tuple[RewardModel, ...]:
        """The reward model that noise is added to."""
        return (self.reward,)

    def identity(self) -> dict[str, Any]:
        return {**self.model_dump(mode="json", exclude={"reward"}), "reward": identity(self.reward)}

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        """Nothing to train: `reward` is a separate stage."""
        return {}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        prompts = [prompt_id(messages) for messages, _ in rows]
        scores = ready.parts[0](rows)
        by_prompt = scales(prompts, scores)
        return [
            None if score is None else self._with_noise(score, prompt, text, by_prompt[prompt].sd)
            for prompt, (_, text), score in zip(prompts, rows, scores, strict=True)
        ]

    def _with_noise(self, score: float, prompt: str, text: str, spread: float) -> float:
        sign = -1.0 if _uniform(self.seed, "flip", prompt) < self.flip else 1.0
        noise = NormalDist().inv_cdf(_uniform(self.seed, "blur", prompt, text)) if self.blur else 0.0
        return sign * score + self.blur * spread * noise


def _uniform(*parts: object) -> float:
    """A number in (0, 1), determined by `parts`."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return (int.from_bytes(digest[:6]) + 0.5) / 2**48
