"""A Bradley-Terry model over a few counts of a text."""

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from harness.components import RecipePath
from harness.errors import DataError
from harness.files import asset, fitted_pairs, read_bytes, sha256
from harness.outside import parse_json
from harness.protocols import Ready, RewardModel
from harness.types import Advance, Messages, PreferencePair

WEIGHTS_FILE = "features.json"
SHIPPED = {"gpt4_turbo": ("judges", "features_gpt4_turbo.json")}
_WORD = re.compile(r"\w+")


class Features(RewardModel):
    """The score is a weighted sum of seven counts of the response. These are, most as log(1 + count), the characters,
    distinct words, commas, colons, brackets and bold marks, and the share of three-word sequences that repeat an
    earlier one. It doesn't read the prompt, ignores correctness, and is easily gamed. With the shipped weights it
    separates good systems from bad ones better than `length` does; within one system, it separates good answers from
    bad ones no better than `length`.

    `weights`: `gpt4_turbo` (shipped: fitted to recorded AlpacaEval verdicts of GPT-4 Turbo, see
    `harness/assets/README.md`) or a file that training wrote. Without weights it is fitted to the seed's training
    pairs: logistic regression on the differences between chosen and rejected (1952), without intercept, each difference
    scaled to a root mean square of 1, with an L2 penalty of `penalty` / 2 times the squared weights. Scores are in
    nats.
    """

    weights: Literal["gpt4_turbo"] | RecipePath | None = Field(None, union_mode="left_to_right")
    """`gpt4_turbo`, which ship, or a file that training wrote; None: fitted to the seed's training pairs."""
    penalty: float = Field(15.0, gt=0)
    """The L2 penalty of a fit: half of it times the squared weights."""

    @property
    def is_trained(self) -> bool:
        """Whether it must be fitted before it can score."""
        return self.weights is None

    def identity(self) -> dict[str, Any]:
        if self.weights is None:
            return {"name": self.name, "penalty": self.penalty, "features": list(FEATURES)}
        return {"name": self.name, "weights_sha256": sha256(read_bytes(self._file(Path())))}

    def fitted_on(self) -> frozenset[str]:
        return frozenset() if self.weights is None else fitted_pairs(self._file(Path()).parent)

    def check(self) -> None:
        if self.weights is not None:
            _read(self._file(Path()))

    def fit(self, pairs: Sequence[PreferencePair], folder: Path, *, seed: int, advance: Advance) -> dict[str, Any]:
        if self.weights is not None:
            return {}
        import numpy as np
        from sklearn.linear_model import LogisticRegression

        chosen, rejected = (
            np.array([_counts(text) for text in texts])
            for texts in zip(*((p.chosen, p.rejected) for p in pairs), strict=True)
        )
        scale = np.sqrt(((chosen - rejected) ** 2).mean(axis=0))
        differences = (chosen - rejected) / np.where(scale > 0, scale, 1)
        model = LogisticRegression(C=1 / self.penalty, fit_intercept=False, max_iter=1000)
        # Each pair as it is and reversed: the regression needs two classes.
        halves = np.full(2 * len(pairs), 0.5)
        model.fit(np.vstack([differences, -differences]), np.repeat([1, 0], len(pairs)), sample_weight=halves)
        weights = dict(zip(FEATURES, (model.coef_[0] / np.where(scale > 0, scale, 1)).tolist(), strict=True))
        (folder / WEIGHTS_FILE).write_text(json.dumps(weights, indent=1) + "\n")
        advance(len(pairs))
        return {"pairs": len(pairs), "accuracy": float((differences @ model.coef_[0] > 0).mean()), "weights": weights}

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        weights = _read(self._file(ready.folder))
        scores = [math.fsum(w * x for w, x in zip(weights, _counts(text), strict=True)) for _, text in rows]
        ready.advance(len(rows))
        return list(scores)

    def _file(self, folder: Path) -> Path:
        if self.weights is None:
            return folder / WEIGHTS_FILE
        return asset(*SHIPPED[self.weights]) if isinstance(self.weights, str) else self.weights


def _read(path: Path) -> list[float]:
    """The weights in the order of FEATURES. Raises DataError."""
    try:
        by_name = parse_json(read_bytes(path))
        weights = [float(by_name[name]) for name in FEATURES]
        if all(map(math.isfinite, weights)):
            return weights
    except (ValueError, TypeError, KeyError):
        pass
    raise DataError(f"{path}: expected a number for each weight of a `features` model: {', '.join(FEATURES)}")


def _log_count(pattern: str) -> Callable[[str, list[str]], float]:
    compiled = re.compile(pattern)
    return lambda text, words: math.log1p(len(compiled.findall(text)))


def _repeated(text: str, words: list[str]) -> float:
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


FEATURES: dict[str, Callable[[str, list[str]], float]] = {
    "log_characters": lambda text, words: math.log1p(len(text)),
    "log_different_words": lambda text, words: math.log1p(len(set(words))),
    "repeated_triples": _repeated,
    "log_commas": _log_count(","),
    "log_colons": _log_count(":"),
    "log_brackets": _log_count(r"\("),
    "log_bold": _log_count(r"\*\*"),
}
"""The counts by name, each a function of a text and its words in lower case."""


def _counts(text: str) -> list[float]:
    words = _WORD.findall(text.lower())
    return [count(text, words) for count in FEATURES.values()]
