"""A control: the response's length as its score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from harness.protocols import Ready, RewardModel
from harness.types import Advance, Messages, PreferencePair


class Length(RewardModel):
    """The score is the response's length in `unit`s; with `prefer: shorter`, its negative. A useful reward model must
    gain more over the untrained policy than this one does."""

    unit: Literal["characters", "words"] = "characters"
    """What is counted."""
    prefer: Literal["longer", "shorter"] = "longer"
    """Which responses score higher."""

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        """Nothing to train."""
        return {}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        sign = 1.0 if self.prefer == "longer" else -1.0
        lengths = [len(text) if self.unit == "characters" else len(text.split()) for _, text in rows]
        ready.advance(len(rows))
        return [sign * length for length in lengths]
